"""Computes paged attention in plain PyTorch: the path on the CPU, and the oracle of the Triton kernels.

It reads `context_lens` on the host, so it can neither be captured in a CUDA graph nor keep a GPU
busy. Any floating dtype works; float64 makes it a reference for checks.
"""

from __future__ import annotations

import itertools

import torch
from torch.nn.functional import scaled_dot_product_attention

from evaluation.toolbench.inference.engine.kernels.float8 import Scales, dequantize, quantize


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
    kv_scales: Scales | None = None,
) -> torch.Tensor:
    """Compute causal attention of new tokens over the pages, (T, Hq, D); see `attention.paged_attention`."""
    if out is None:
        out = torch.empty_like(q)
    contexts: list[int] = context_lens.tolist()
    starts: list[int] = cu_seqlens_q.tolist()
    lengths = [end - start for start, end in itertools.pairwise(starts)]
    # Rows of one new token go through SDPA together: a batch of decodes is one call. Longer ones go
    # one by one, since padding them to a common length costs more than it saves.
    singles = [row for row, (n, context) in enumerate(zip(lengths, contexts, strict=True)) if n == 1 and context]
    groups = [singles] if singles else []
    groups += [[row] for row, (n, context) in enumerate(zip(lengths, contexts, strict=True)) if n > 1 and context]
    for row, context in enumerate(contexts):
        if context == 0:
            out[starts[row] : starts[row + 1]] = 0
    for rows in groups:
        tokens = [token for row in rows for token in range(starts[row], starts[row + 1])]
        index = slice(tokens[0], tokens[-1] + 1) if tokens[-1] - tokens[0] + 1 == len(tokens) else tokens
        out[index] = _attend(
            q[index].unflatten(0, (len(rows), -1)),
            k_cache,
            v_cache,
            kv_scales or (None, None),
            block_tables[rows],
            [contexts[row] for row in rows],
            scale,
        ).flatten(0, 1)
    return out


def _attend(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    kv_scales: Scales | tuple[None, None],
    block_tables: torch.Tensor,
    contexts: list[int],
    scale: float,
) -> torch.Tensor:
    """Return attention of rows with the same number of new tokens: q (B, n, Hq, D) -> (B, n, Hq, D)."""
    batch, n, num_heads, head_dim = q.shape
    page_size, num_kv_heads = k_cache.shape[1:3]
    group = num_heads // num_kv_heads
    longest = max(contexts)
    context = torch.tensor(contexts, device=q.device).unsqueeze(1)  # (B, 1)
    page_start = torch.arange(0, longest, page_size, device=q.device)
    # Entries past a row's own pages mean nothing; any valid page stands in for them.
    pages = block_tables[:, : len(page_start)].long().masked_fill_(page_start >= context, 0)
    k, v = (
        _read(cache, scales, pages, q.dtype)[:, :longest].transpose(1, 2)  # (B, Hkv, longest, D)
        for cache, scales in zip((k_cache, v_cache), kv_scales, strict=True)
    )
    # The query heads of a group share their K and V. Laid out as further queries of that one head
    # they need no repeated copy of K and V: (B, Hkv, group * n, D).
    queries = q.unflatten(2, (num_kv_heads, group)).permute(0, 2, 3, 1, 4).reshape(batch, num_kv_heads, -1, head_dim)
    if n == 1 and min(contexts) == longest:
        mask = None
    else:
        key = torch.arange(longest, device=q.device)
        position = context - n + torch.arange(n, device=q.device)  # (B, n), of the queries
        mask = (key <= position.unsqueeze(-1)).repeat(1, group, 1).unsqueeze(1)  # (B, 1, group * n, longest)
        # A row's last page may hold values of an earlier owner, or never have been written: a NaN
        # there would survive a weight of 0.
        unwritten = (key >= context).view(batch, 1, longest, 1)
        k.masked_fill_(unwritten, 0)  # in place: the gather above made a copy
        v.masked_fill_(unwritten, 0)
    result = scaled_dot_product_attention(queries, k, v, attn_mask=mask, scale=scale)
    return result.view(batch, num_kv_heads, group, n, head_dim).permute(0, 3, 1, 2, 4).flatten(2, 3)


def _read(cache: torch.Tensor, scales: torch.Tensor | None, pages: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a copy of what is in `pages` (B, n): (B, n * page_size, Hkv, D)."""
    held = cache[pages]
    if scales is not None:
        held = dequantize(held, scales[pages]).to(dtype)
    return held.flatten(1, 2)


def read_slots(
    cache: torch.Tensor, scales: torch.Tensor | None, slots: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Return a copy of what is in `slots` (n,): (n, Hkv, D)."""
    held = cache.flatten(0, 1).index_select(0, slots)
    if scales is not None:
        page_size = cache.shape[1]
        held = dequantize(held, scales[slots // page_size, slots % page_size]).to(dtype)
    return held


def write_kv(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
    kv_scales: Scales | None = None,
) -> None:
    """Store new keys and values in their pages; see `attention.write_kv`."""
    kept = (slots >= 0).nonzero().squeeze(1)
    write_slots(k[kept], v[kept], k_cache, v_cache, slots[kept], kv_scales)


def write_slots(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
    kv_scales: Scales | None,
) -> None:
    """Store keys and values in slots, none of which is padding."""
    if kv_scales is not None:
        page, offset = slots // k_cache.shape[1], slots % k_cache.shape[1]
        k, kv_scales[0][page, offset] = quantize(k)
        v, kv_scales[1][page, offset] = quantize(v)
    k_cache.flatten(0, 1).index_copy_(0, slots, k)
    v_cache.flatten(0, 1).index_copy_(0, slots, v)
