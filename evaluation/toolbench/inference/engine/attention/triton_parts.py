"""Joins what several programs made of one context, each of a part of it.

A part's result comes with log2 of the sum of its weights, which says how much it counts: minus infinity where
nothing was seen. So the join need not know how contexts were cut.
"""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl


def empty_parts(q: torch.Tensor, num_parts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return room for parts of the result for queries (T, Hq, D): (T, Hq, P, D) and log2 of their sums, (T, Hq, P).

    Every sum is to be written by somebody, a result where its sum is finite.
    """
    size = *q.shape[:2], num_parts
    partial = torch.empty(*size, q.shape[2], dtype=torch.float32, device=q.device)
    return partial, torch.empty(size, dtype=torch.float32, device=q.device)


def join_parts(partial: torch.Tensor, log_sum: torch.Tensor, out: torch.Tensor, heads: int = 1) -> None:
    """Write to out (T, Hq, D) what the parts make together; one program takes this many heads of a token."""
    total, num_heads, num_parts, head_dim = partial.shape
    _join_parts[triton.cdiv(num_heads, heads), total](
        partial,
        log_sum,
        out,
        num_heads,
        num_parts,
        *out.stride()[:2],
        HEADS=heads,
        PARTS_TILE=triton.next_power_of_2(num_parts),
        HEAD_DIM=head_dim,
        HEAD_TILE=max(16, triton.next_power_of_2(head_dim)),
        num_warps=2,
    )


@triton.jit(do_not_specialize=["num_parts"])
def _join_parts(
    partial,
    log_sum,
    out,
    num_heads,
    num_parts,
    out_row,
    out_head,
    HEADS: tl.constexpr,
    PARTS_TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEAD_TILE: tl.constexpr,
):
    """Weight the parts of one token and some of its heads by their sums; zeros where nothing was seen at all."""
    heads = tl.program_id(0) * HEADS + tl.arange(0, HEADS)
    row = tl.program_id(1)
    part = tl.arange(0, PARTS_TILE)
    dim = tl.arange(0, HEAD_TILE)
    index = ((row * num_heads + heads) * num_parts)[:, None] + part[None, :]
    exists = (heads < num_heads)[:, None] & (part < num_parts)[None, :]
    sums = tl.load(log_sum + index, mask=exists, other=float("-inf"))
    largest = tl.maximum(tl.max(sums, 1), -1.0e30)  # finite where nothing was seen, too
    weights = tl.exp2(sums - largest[:, None])
    weights = weights / tl.maximum(tl.sum(weights, 1), 1.0e-30)[:, None]
    ok = (sums > float("-inf"))[:, :, None] & (dim < HEAD_DIM)[None, None, :]
    parts = tl.load(partial + index[:, :, None] * HEAD_DIM + dim[None, None, :], mask=ok, other=0.0)
    result = tl.sum(parts * weights[:, :, None], 1)
    ok_out = (heads < num_heads)[:, None] & (dim < HEAD_DIM)[None, :]
    target = out + row * out_row + heads[:, None] * out_head + dim[None, :]
    tl.store(target, result.to(out.dtype.element_ty), mask=ok_out)
