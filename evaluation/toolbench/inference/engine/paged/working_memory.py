"""Reckons the GPU memory that steps need beside weights and KV cache, for the engine and for plans. Pure.

`python test_multi_gpu.py` holds it against the card: on H200s weights, KV cache and steps together took 117.6 GiB of
the 118.0 that it allowed (8B model, 64 greedy conversations, steps of 512 tokens), so a step took about half a GiB
where this says 0.9. Sampling with top_p needs more than greedy choices, which is why the difference stays.
"""

from __future__ import annotations

from evaluation.toolbench.inference.engine.paged.limits import Limits

RUNTIME_BYTES = 512 * 2**20  # on every GPU: cuBLAS workspaces, CUDA graphs, what the allocator cannot reuse

# Of a drawn row, for each id of the vocabulary: logits in the model's dtype (2), in float32 (4), masked (4), scores (4)
# and their noise (4), and for top_p a sorted copy with int64 indices (12), probabilities (4) and their sums (4).
_SAMPLING_BYTES = 40


def activation_bytes_per_token(hidden_size: int, intermediate_size: int, item_bytes: int) -> int:
    """Return what a token takes at the widest point of a layer: both halves of the feed-forward layer, their product,
    and the hidden state with its norm, sum and copy."""
    return (3 * intermediate_size + 4 * hidden_size) * item_bytes


def working_bytes(activation_bytes: int, limits: Limits, num_batches: int = 1) -> int:
    """Return the bytes that a step within `limits` needs on every GPU; `activation_bytes` are those of a token.

    The running sequences are divided over `num_batches`, each of which has steps of its own.
    """
    tokens = rows_of_a_step(limits.max_running, num_batches, limits) + limits.max_prefill_tokens
    return tokens * activation_bytes + RUNTIME_BYTES


def logits_bytes(rows: int, vocab_size: int) -> int:
    """Return the bytes that choosing the next token of `rows` sequences needs beside that, at the output embedding."""
    return rows * vocab_size * _SAMPLING_BYTES


def rows_of_a_step(num_running: int, num_batches: int, limits: Limits) -> int:
    """Return how many of `num_running` sequences draw a token in one step: a batch's share, and prompts that end with
    it.

    >>> rows_of_a_step(1, 3, Limits()), rows_of_a_step(128, 1, Limits()), rows_of_a_step(128, 3, Limits())
    (1, 128, 59)
    """
    return min(num_running, -(-num_running // num_batches) + limits.max_prefill_rows)
