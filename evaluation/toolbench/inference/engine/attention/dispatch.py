"""The two operations on a paged KV cache: store new keys and values, and attend to what is stored."""

from __future__ import annotations

import torch

from evaluation.toolbench.inference.engine.attention import reference


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    max_q: int,
    scale: float,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention of T new tokens over the pages of their B sequences: (T, Hq, D), the dtype of `q`.

    q             (T, Hq, D), the sequences' new tokens one after another; T is cu_seqlens_q[B]
    k_cache       (num_pages, page_size, Hkv, D), with the new tokens already written; Hkv divides Hq
    v_cache       likewise
    block_tables  (B, max_pages) int32: page of a sequence's tokens [i * page_size, (i + 1) * page_size);
                  entries past its last page are not read
    context_lens  (B,) int32: tokens of each sequence, the new ones included
    cu_seqlens_q  (B + 1,) int32: where each sequence's new tokens start in `q`, and T
    max_q         the most new tokens of any sequence; 1 promises exactly one in every row (decode)
    out           where to write the result; made here when None

    Query i of a sequence with n new tokens sits at position context_len - n + i and sees the tokens
    up to itself. A row with context_len 0 is padding: its tokens, if it has any, get zeros.
    """
    return reference.paged_attention(q, k_cache, v_cache, block_tables, context_lens, cu_seqlens_q, max_q, scale, out)


def write_kv(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slots: torch.Tensor
) -> None:
    """Store new keys and values, (T, Hkv, D) each, in their pages.

    slots  (T,) int64: page * page_size + offset of each token; negative ones are padding and skipped.
    """
    reference.write_kv(k, v, k_cache, v_cache, slots)
