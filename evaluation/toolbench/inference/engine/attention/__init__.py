"""Attends over a paged KV cache: one interface, and the fastest implementation for where it runs."""

from evaluation.toolbench.inference.engine.attention.dispatch import paged_attention, write_kv

__all__ = ["paged_attention", "write_kv"]
