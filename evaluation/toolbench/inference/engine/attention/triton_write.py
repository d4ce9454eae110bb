"""Stores new keys and values in their pages, both in one Triton kernel."""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl

from evaluation.toolbench.inference.engine.kernels.float8 import Scales
from evaluation.toolbench.inference.engine.kernels.triton_float8 import codes_of, scales_of


def write_kv(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
    kv_scales: Scales | None = None,
) -> None:
    """Store each token by a program of its own; see `attention.write_kv`."""
    total, num_kv_heads, head_dim = k.shape
    if kv_scales is not None:
        _write_float8(k, v, k_cache, v_cache, slots, kv_scales)
        return
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


def _write_float8(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
    kv_scales: Scales,
) -> None:
    total, num_kv_heads, head_dim = k.shape
    k_scales, v_scales = kv_scales
    with torch.cuda.device_of(k):
        _write_float8_token[(total,)](
            k,
            v,
            k_cache,
            v_cache,
            k_scales,
            v_scales,
            slots,
            *k.stride()[:2],
            *v.stride()[:2],
            *k_cache.stride()[:3],
            *v_cache.stride()[:3],
            *k_scales.stride(),
            *v_scales.stride(),
            PAGE_SIZE=k_cache.shape[1],
            NUM_HEADS=num_kv_heads,
            HEADS_TILE=triton.next_power_of_2(num_kv_heads),
            HEAD_DIM=head_dim,
            HEAD_TILE=triton.next_power_of_2(head_dim),
            num_warps=4,
        )


@triton.jit
def _write_float8_token(
    k,
    v,
    k_cache,
    v_cache,
    k_scales,
    v_scales,
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
    k_scale_page,
    k_scale_slot,
    k_scale_head,
    v_scale_page,
    v_scale_slot,
    v_scale_head,
    PAGE_SIZE: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    HEADS_TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEAD_TILE: tl.constexpr,
):
    """Store the keys and values of one token, all heads, as codes and scales."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    head = tl.arange(0, HEADS_TILE)
    dim = tl.arange(0, HEAD_TILE)
    head_ok = head < NUM_HEADS
    ok = head_ok[:, None] & (dim < HEAD_DIM)[None, :]
    page = slot // PAGE_SIZE
    offset = slot % PAGE_SIZE

    keys = tl.load(k + token * k_token + head[:, None] * k_head + dim[None, :], mask=ok, other=0.0)
    keys, scale, inverse = scales_of(keys.to(tl.float32))
    target = k_cache + page * k_page + offset * k_slot + head[:, None] * k_cache_head + dim[None, :]
    tl.store(target, codes_of(keys, inverse), mask=ok)
    tl.store(k_scales + page * k_scale_page + offset * k_scale_slot + head * k_scale_head, scale, mask=head_ok)

    values = tl.load(v + token * v_token + head[:, None] * v_head + dim[None, :], mask=ok, other=0.0)
    values, scale, inverse = scales_of(values.to(tl.float32))
    target = v_cache + page * v_page + offset * v_slot + head[:, None] * v_cache_head + dim[None, :]
    tl.store(target, codes_of(values, inverse), mask=ok)
    tl.store(v_scales + page * v_scale_page + offset * v_scale_slot + head * v_scale_head, scale, mask=head_ok)
