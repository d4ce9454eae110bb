"""Keeps ToolBench's place of `base_env`; the class is in `Tree/base_env.py`."""

from evaluation.toolbench.inference.Tree.base_env import FunctionJson, base_env

__all__ = ["FunctionJson", "base_env"]
