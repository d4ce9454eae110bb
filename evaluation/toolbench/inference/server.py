"""Keeps ToolBench's name for calling a tool's own code here; the code is in `Downstream_tasks/local_apis.py`."""

from evaluation.toolbench.inference.Downstream_tasks.local_apis import get_rapidapi_response

__all__ = ["get_rapidapi_response"]
