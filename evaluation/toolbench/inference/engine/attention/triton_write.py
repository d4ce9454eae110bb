"""Stores new keys and values in their pages, both in one Triton kernel."""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl


def write_kv(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slots: torch.Tensor
) -> None:
    """Store each token by a program of its own; see `attention.write_kv`."""
    total, num_kv_heads, head_dim = k.shape
    with torch.cuda.device_of(k):  # Triton launches on the current device; a model may be spread over several
        _write_token[(total,)](
            k,
            v,
            k_cache,
            v_cache,
            slots,
            *k.stride()[:2],
            *v.stride()[:2],
            *k_cache.stride()[:3],
            *v_cache.stride()[:3],
            PAGE_SIZE=k_cache.shape[1],
            NUM_HEADS=num_kv_heads,
            HEAD_DIM=head_dim,
            TILE=triton.next_power_of_2(num_kv_heads * head_dim),
            num_warps=4,
        )


@triton.jit
def _write_token(
    k,
    v,
    k_cache,
    v_cache,
    slots,
    k_token,
    k_head,
    v_token,
    v_head,
    k_page,
    k_slot,
    k_cache_head,
    v_page,
    v_slot,
    v_cache_head,
    PAGE_SIZE: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TILE: tl.constexpr,
):
    """Store the keys and values of one token, all heads."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    element = tl.arange(0, TILE)
    ok = element < NUM_HEADS * HEAD_DIM
    head = element // HEAD_DIM
    dim = element % HEAD_DIM
    page = slot // PAGE_SIZE
    offset = slot % PAGE_SIZE
    keys = tl.load(k + token * k_token + head * k_head + dim, mask=ok)
    tl.store(k_cache + page * k_page + offset * k_slot + head * k_cache_head + dim, keys, mask=ok)
    values = tl.load(v + token * v_token + head * v_head + dim, mask=ok)
    tl.store(v_cache + page * v_page + offset * v_slot + head * v_cache_head + dim, values, mask=ok)
