"""Attends over a paged KV cache: one interface, and the fastest implementation for where it runs.

Reading order: `dispatch` (the interface, and who serves it), `reference` (plain PyTorch: what the others are held
against), `triton_write`, `triton_copy`, `triton_parts`, `triton_decode`, `triton_split`, `triton_prefill` (our
kernels), `varlen` (PyTorch's own). What they need of a card, and 8-bit keys and values, are in `kernels/`.
"""

from evaluation.toolbench.inference.engine.attention.dispatch import paged_attention, write_kv

__all__ = ["paged_attention", "write_kv"]
