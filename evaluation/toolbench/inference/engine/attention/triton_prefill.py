"""Prefills with paged attention in Triton: any number of new tokens, with or without a cached prefix.

K and V are read from their pages, prefix and new tokens alike, so nothing is gathered. A row with one
new token is a short sequence; where there are many of them, `triton_decode` is the faster kernel.

How it is laid out. A program takes a tile of one sequence's new tokens and one KV head; the query
heads of the group are further rows of the tile (32 tokens times 4 heads are 128 rows), so each K and
V that is loaded serves them all. The grid has a program for every tile that T tokens of B sequences
could need, T // tile + B: the launch depends on shapes alone, and each program finds its tile from the
lengths on the device. Where there are few tiles, programs share their contexts (see `triton_split`).
"""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from evaluation.toolbench.inference.engine.attention.triton_parts import empty_parts, join_parts
from evaluation.toolbench.inference.engine.attention.triton_split import (
    SMALLEST_PART,
    Split,
    choose_split,
    item_of,
    length_of_lookup,
)
from evaluation.toolbench.inference.engine.kernels.float8 import Scales
from evaluation.toolbench.inference.engine.kernels.hardware import converts_float8, is_old, num_multiprocessors
from evaluation.toolbench.inference.engine.kernels.triton_float8 import LARGEST, multiplicand, numbers_of

_LOG2_E = 1.4426950408889634
_JOINED_HEADS = 8  # by one program
_SHORT = 256  # tokens


@dataclass(frozen=True)
class Tile:
    """Says how the kernel is cut: rows (tokens times heads), tokens of the context at a time, warps, load stages.

    `max_registers` of a thread leave room for other programs on the multiprocessor, decodes' among them.
    """

    rows: int
    tokens: int
    num_warps: int
    num_stages: int
    max_registers: int | None = None

    @property
    def at_once(self) -> int:
        """Return how many programs a multiprocessor has registers for, of which there are 65,536."""
        return max(1, 65_536 // (32 * self.num_warps * (self.max_registers or 256)))


def paged_prefill(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    scale: float,
    out: torch.Tensor,
    kv_scales: Scales | None = None,
    *,
    tile: Tile | None = None,
    split: Split | None = None,
) -> None:
    """Compute causal attention of T new tokens, q (T, Hq, D) to `out`, as `attention.paged_attention` does.

    `tile` and `split` override what is chosen from the shapes, for benchmarks.
    """
    total, num_heads, head_dim = q.shape
    page_size, num_kv_heads = k_cache.shape[1:3]
    group = num_heads // num_kv_heads
    group_tile = triton.next_power_of_2(group)
    if tile is None:
        tile = choose_tile(block_tables.shape[1] * page_size, head_dim, q.element_size(), is_old(q.device))
    block_q = max(1, tile.rows // group_tile)
    if split is None:
        split = choose_split(triton.cdiv(total, block_q), num_kv_heads, num_multiprocessors(q.device) * tile.at_once)
    batch = len(context_lens)
    num_items = max(total // block_q + batch, split.programs)
    partial, log_sum = (out, out) if split.parts == 1 else empty_parts(q, split.parts)
    k_scales, v_scales = kv_scales or (None, None)
    with torch.cuda.device_of(q):  # Triton launches on the current device; a model may be spread over several
        _attend_tile[num_kv_heads, num_items](
            q,
            k_cache,
            v_cache,
            block_tables,
            context_lens,
            cu_seqlens_q,
            out,
            partial,
            log_sum,
            scale * _LOG2_E,
            batch,
            split.programs,
            split.parts,
            *q.stride()[:2],
            *k_cache.stride()[:3],
            *v_cache.stride()[:3],
            block_tables.stride(0),
            *out.stride()[:2],
            k_scales,
            v_scales,
            *(k_scales.stride() if k_scales is not None else (0, 0, 0)),
            *(v_scales.stride() if v_scales is not None else (0, 0, 0)),
            SPLIT=split.parts > 1,
            ROWS=length_of_lookup(batch),
            PAGE_SIZE=page_size,
            GROUP=group,
            GROUP_TILE=group_tile,
            HEAD_DIM=head_dim,
            HEAD_TILE=max(16, triton.next_power_of_2(head_dim)),
            BLOCK_Q=block_q,
            BLOCK=tile.tokens,
            SMALLEST_PART=SMALLEST_PART // tile.tokens,
            IS_NATIVE=converts_float8(q.device),
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            maxnreg=tile.max_registers,
        )
        if split.parts > 1:
            join_parts(partial, log_sum, out, heads=_JOINED_HEADS)


def choose_tile(longest: int, head_dim: int, element_size: int, on_old_card: bool = False) -> Tile:
    """Choose by the dtype, and by the `longest` context possible: half-precision tiles feed the matrix units, float32
    is held small.

    An old card (see `kernels.hardware`) multiplies element by element: a large tile would be a program of megabytes
    there, and need more shared memory than there is.
    """
    if on_old_card:
        return Tile(rows=32, tokens=16, num_warps=4, num_stages=1)
    if element_size > 2:
        return Tile(rows=32, tokens=16, num_warps=8, num_stages=1)  # more would spill registers
    if head_dim > 128:
        return Tile(rows=64, tokens=32, num_warps=4, num_stages=2)
    # 128 rows take an H200 12 to 24% longer. To begin with blocks that come later is for contexts that have some: those
    # of 100 tokens take it 42 us with three stages and 32 with one (19 prompts, pages of 16 tokens).
    return Tile(rows=64, tokens=64, num_warps=4, num_stages=1 if longest <= _SHORT else 3)


# Not specialised: what differs from step to step, or with the row at which a slice begins. Otherwise the
# kernel would be compiled again in the middle of a run.
@triton.jit(
    do_not_specialize=["batch", "programs", "max_parts", "table_row"],
    do_not_specialize_on_alignment=["block_tables", "context_lens", "cu_seqlens_q"],
)
def _attend_tile(
    q,
    k_cache,
    v_cache,
    block_tables,
    context_lens,
    cu_seqlens_q,
    out,
    partial,
    log_sum,
    scale_log2,
    batch,
    programs,
    max_parts,
    q_token,
    q_head,
    k_page,
    k_slot,
    k_head,
    v_page,
    v_slot,
    v_head,
    table_row,
    out_token,
    out_head,
    k_scales,
    v_scales,
    k_scale_page,
    k_scale_slot,
    k_scale_head,
    v_scale_page,
    v_scale_slot,
    v_scale_head,
    SPLIT: tl.constexpr,
    ROWS: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEAD_TILE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK: tl.constexpr,
    SMALLEST_PART: tl.constexpr,
    IS_NATIVE: tl.constexpr,
):
    """Serve BLOCK_Q new tokens of one sequence and the query heads of one KV head.

    With `k_scales` and `v_scales` (else None) keys and values are 8-bit codes.
    """
    kv_head = tl.program_id(0)
    row, index, num_parts = item_of(
        tl.program_id(1),
        context_lens,
        cu_seqlens_q,
        batch,
        programs,
        max_parts,
        SPLIT,
        ROWS,
        BLOCK_Q,
        BLOCK,
        SMALLEST_PART,
    )
    if row < 0:
        return
    start = tl.load(cu_seqlens_q + row)
    num_new = tl.load(cu_seqlens_q + row + 1) - start
    num_tiles = tl.cdiv(num_new, BLOCK_Q)
    # Later tiles of a sequence see more of it, so they come first.
    first_query = (num_tiles - 1 - index % num_tiles) * BLOCK_Q
    part = index // num_tiles

    context = tl.load(context_lens + row)
    lane = tl.arange(0, BLOCK_Q * GROUP_TILE)
    query_index = first_query + lane // GROUP_TILE
    heads = kv_head * GROUP + lane % GROUP_TILE
    dim = tl.arange(0, HEAD_TILE)
    lane_ok = (query_index < num_new) & (lane % GROUP_TILE < GROUP)
    ok = lane_ok[:, None] & (dim < HEAD_DIM)[None, :]
    token = (start + query_index).to(tl.int64)
    query = tl.load(q + token[:, None] * q_token + heads[:, None] * q_head + dim[None, :], mask=ok, other=0.0)
    if k_scales is not None:
        query = multiplicand(query)

    first_position = context - num_new + first_query
    position = first_position + lane // GROUP_TILE
    last_seen = tl.where(context > 0, min(first_position + BLOCK_Q, context), 0)
    num_full = tl.maximum(first_position + 1, 0) // BLOCK  # blocks that every query of the tile sees whole
    first_block = 0
    last_block = tl.cdiv(last_seen, BLOCK)
    if SPLIT:
        blocks_per_part = tl.cdiv(last_block, num_parts)
        first_block = part * blocks_per_part
        last_block = min(first_block + blocks_per_part, last_block)
    table = block_tables + row * table_row
    k_base = k_cache + kv_head * k_head
    v_base = v_cache + kv_head * v_head
    k_scale_base = k_scales
    v_scale_base = v_scales
    if k_scales is not None:
        k_scale_base = k_scales + kv_head * k_scale_head
        v_scale_base = v_scales + kv_head * v_scale_head

    running_max = tl.full([BLOCK_Q * GROUP_TILE], float("-inf"), tl.float32)
    running_sum = tl.zeros([BLOCK_Q * GROUP_TILE], tl.float32)
    acc = tl.zeros([BLOCK_Q * GROUP_TILE, HEAD_TILE], tl.float32)
    acc, running_max, running_sum = _attend_blocks(
        acc,
        running_max,
        running_sum,
        query,
        position,
        k_base,
        v_base,
        table,
        context,
        scale_log2,
        first_block,
        min(num_full, last_block),
        k_page,
        k_slot,
        v_page,
        v_slot,
        k_scale_base,
        v_scale_base,
        k_scale_page,
        k_scale_slot,
        v_scale_page,
        v_scale_slot,
        PAGE_SIZE,
        HEAD_DIM,
        HEAD_TILE,
        BLOCK,
        IS_NATIVE,
        MASKED=False,
    )
    acc, running_max, running_sum = _attend_blocks(
        acc,
        running_max,
        running_sum,
        query,
        position,
        k_base,
        v_base,
        table,
        context,
        scale_log2,
        tl.maximum(num_full, first_block),
        last_block,
        k_page,
        k_slot,
        v_page,
        v_slot,
        k_scale_base,
        v_scale_base,
        k_scale_page,
        k_scale_slot,
        v_scale_page,
        v_scale_slot,
        PAGE_SIZE,
        HEAD_DIM,
        HEAD_TILE,
        BLOCK,
        IS_NATIVE,
        MASKED=True,
    )
    if v_scales is not None:
        acc = acc / LARGEST
    result = acc / tl.where(running_sum == 0, 1.0, running_sum)[:, None]  # a padding row gets zeros
    if SPLIT:
        vector = ((start + query_index) * tl.num_programs(0) * GROUP + heads) * max_parts + part
        # Minus infinity where nothing is seen, as by the early queries of a tile in its last part.
        tl.store(log_sum + vector, running_max + tl.log2(running_sum), mask=lane_ok)
        if part == 0:
            for unused in range(num_parts, max_parts):
                tl.store(log_sum + vector + unused, float("-inf"), mask=lane_ok)
        tl.store(partial + vector[:, None] * HEAD_DIM + dim[None, :], result, mask=ok)
    else:
        target = out + token[:, None] * out_token + heads[:, None] * out_head + dim[None, :]
        tl.store(target, result.to(out.dtype.element_ty), mask=ok)


@triton.jit
def _attend_blocks(
    acc,
    running_max,
    running_sum,
    query,
    position,
    k_base,
    v_base,
    table,
    context,
    scale_log2,
    first,
    last,
    k_page,
    k_slot,
    v_page,
    v_slot,
    k_scales,
    v_scales,
    k_scale_page,
    k_scale_slot,
    v_scale_page,
    v_scale_slot,
    PAGE_SIZE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEAD_TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_NATIVE: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Add blocks [first, last) of the context to the running softmax; MASKED where some are not seen by all."""
    dim = tl.arange(0, HEAD_TILE)
    for block in range(first, last):
        token = block * BLOCK + tl.arange(0, BLOCK)
        if PAGE_SIZE >= BLOCK:  # a block lies in one page
            page = tl.load(table + block // (PAGE_SIZE // BLOCK)).to(tl.int64)
            k_start = k_base + page * k_page
            v_start = v_base + page * v_page
            k_offset = (token % PAGE_SIZE) * k_slot
            v_offset = (token % PAGE_SIZE) * v_slot
            pages = page
        else:
            pages = tl.load(table + token // PAGE_SIZE, mask=token < context, other=0).to(tl.int64)
            k_start = k_base
            v_start = v_base
            k_offset = pages * k_page + (token % PAGE_SIZE) * k_slot
            v_offset = pages * v_page + (token % PAGE_SIZE) * v_slot
        k_pointer = k_start + k_offset[None, :] + dim[:, None]
        v_pointer = v_start + v_offset[:, None] + dim[None, :]
        if MASKED:
            held = token < context
            k = tl.load(k_pointer, mask=held[None, :] & (dim < HEAD_DIM)[:, None], other=0.0)
        elif HEAD_DIM == HEAD_TILE:
            k = tl.load(k_pointer)
        else:
            k = tl.load(k_pointer, mask=(dim < HEAD_DIM)[:, None], other=0.0)
        if k_scales is None:
            scores = tl.dot(query, k, input_precision="ieee")
        else:
            k_scale_pointer = k_scales + pages * k_scale_page + (token % PAGE_SIZE) * k_scale_slot
            k_scale = tl.load(k_scale_pointer, mask=held, other=0.0) if MASKED else tl.load(k_scale_pointer)
            k = numbers_of(k, query.dtype, IS_NATIVE)
            scores = tl.dot(query, k, input_precision="ieee") * k_scale[None, :]
        if MASKED:
            scores = tl.where(token[None, :] <= position[:, None], scores, float("-inf"))
        # Above minus infinity also for rows that see nothing yet: padding, and queries before this block.
        new_max = tl.maximum(tl.maximum(running_max, tl.max(scores, 1) * scale_log2), -1.0e30)
        weights = tl.exp2(scores * scale_log2 - new_max[:, None])  # one multiply-add for each
        shrink = tl.exp2(running_max - new_max)
        running_sum = running_sum * shrink + tl.sum(weights, 1)
        if MASKED:
            v = tl.load(v_pointer, mask=held[:, None] & (dim < HEAD_DIM)[None, :], other=0.0)
        elif HEAD_DIM == HEAD_TILE:
            v = tl.load(v_pointer)
        else:
            v = tl.load(v_pointer, mask=(dim < HEAD_DIM)[None, :], other=0.0)
        if v_scales is not None:
            # As large as the values themselves, so that float16 holds the products with the weights.
            v_scale_pointer = v_scales + pages * v_scale_page + (token % PAGE_SIZE) * v_scale_slot
            v_scale = tl.load(v_scale_pointer, mask=held, other=0.0) if MASKED else tl.load(v_scale_pointer)
            weights = weights * (v_scale * LARGEST)[None, :]
            v = numbers_of(v, query.dtype, IS_NATIVE)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        running_max = new_max
    return acc, running_max, running_sum
