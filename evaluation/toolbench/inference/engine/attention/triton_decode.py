"""Decodes with paged attention in Triton: one new token a row, the context split over many programs.

What it costs. Each K and V of the context is read once: context * Hkv * D * 2 elements a row; q, the
output and the partial results (float32, one vector of D per query head and split) are under 2% of
that at 1,800 tokens. 64 rows of 1,800 tokens with 8 KV heads of 128 bfloat16: 472 MB a layer, 110 us
at 4.3 TB/s. A byte takes part in one operation for each query head of its group: arithmetic does not limit it.

How it is laid out. One program takes one row, one KV head and one part of the context. The group of
query heads that share the KV head is one tile of `tl.dot`, padded to 16 rows, so K and V are loaded
once for all of them. A second, small kernel joins the parts. The number of parts follows from shapes
alone and their size from `context_lens` on the device, so a captured graph serves contexts of any
length. Programs of all KV heads of a row come next to each other in the grid: together they read
whole tokens, and rows that share the pages of a prefix find them in the L2 cache.
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
from evaluation.toolbench.inference.engine.attention.triton_split import SMALLEST_PART
from evaluation.toolbench.inference.engine.kernels.float8 import Scales
from evaluation.toolbench.inference.engine.kernels.hardware import converts_float8, is_old, num_multiprocessors
from evaluation.toolbench.inference.engine.kernels.triton_float8 import LARGEST, multiplicand, numbers_of

_LOG2_E = 1.4426950408889634
_MAX_SPLITS = 32


@dataclass(frozen=True)
class Tile:
    """Says how a kernel is cut: tokens of the context that a program takes at a time, its warps and load stages."""

    tokens: int
    num_warps: int
    num_stages: int


def paged_decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    scale: float,
    out: torch.Tensor,
    kv_scales: Scales | None = None,
    *,
    num_splits: int | None = None,
    tile: Tile | None = None,
) -> None:
    """Compute the attention of one new token a row: q (B, Hq, D) to `out`, as `attention.paged_attention` does.

    `num_splits` and `tile` override what is chosen from the shapes, for benchmarks.
    """
    batch, num_heads, head_dim = q.shape
    page_size, num_kv_heads = k_cache.shape[1:3]
    group = num_heads // num_kv_heads
    if tile is None:
        tile = choose_tile(head_dim, q.element_size(), is_old(q.device), kv_scales is not None)
    k_scales, v_scales = kv_scales or (None, None)
    if num_splits is None:
        longest = block_tables.shape[1] * page_size
        num_splits = choose_num_splits(batch * num_kv_heads, longest, tile.tokens, num_multiprocessors(q.device))
    if num_splits == 1:
        partial, log_sum = out, out  # the first kernel writes the result; the second is not needed
    else:
        partial, log_sum = empty_parts(q, num_splits)
    with torch.cuda.device_of(q):  # Triton launches on the current device; a model may be spread over several
        _attend_part[num_kv_heads, batch, num_splits](
            q,
            k_cache,
            v_cache,
            block_tables,
            context_lens,
            out,
            partial,
            log_sum,
            scale * _LOG2_E,
            *q.stride()[:2],
            *k_cache.stride()[:3],
            *v_cache.stride()[:3],
            block_tables.stride(0),
            *out.stride()[:2],
            k_scales,
            v_scales,
            *(k_scales.stride() if k_scales is not None else (0, 0, 0)),
            *(v_scales.stride() if v_scales is not None else (0, 0, 0)),
            SPLIT=num_splits > 1,
            PAGE_SIZE=page_size,
            GROUP=group,
            GROUP_TILE=max(16, triton.next_power_of_2(group)),
            HEAD_DIM=head_dim,
            HEAD_TILE=max(16, triton.next_power_of_2(head_dim)),
            BLOCK=tile.tokens,
            IS_NATIVE=converts_float8(q.device),
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )
        if num_splits > 1:
            join_parts(partial, log_sum, out)


def choose_num_splits(pairs: int, longest: int, block: int, num_multiprocessors: int) -> int:
    """Return parts of the context, from shapes alone: `pairs` of a row and a KV head, and the `longest` context
    possible.

    About 16 programs for each multiprocessor: several run at once on one, and when programs differ in
    length the last ones should be short beside the whole. A part is at least one block, and where the card has
    enough to do without it, at least `SMALLEST_PART` tokens: less is read sooner than parts are joined.

    >>> [choose_num_splits(pairs, longest, 64, 132) for pairs, longest in ((1024, 8192), (1024, 256), (8, 256))]
    [3, 1, 4]
    """
    wanted = -(-16 * num_multiprocessors // pairs)
    if pairs >= num_multiprocessors:
        wanted = min(wanted, longest // SMALLEST_PART)
    return max(1, min(wanted, _MAX_SPLITS, -(-longest // block)))


def choose_tile(head_dim: int, element_size: int, on_old_card: bool = False, is_float8: bool = False) -> Tile:
    """Choose blocks of at most 16 KiB of K and as much of V.

    The next block is on its way while one is worked on (three stages: pages, K and V, arithmetic), and
    the 38 KiB of shared memory that it takes let five programs run on a multiprocessor of an H200.
    On an old card (see `kernels.hardware`) blocks are half as large, so that two programs fit its 64 KiB.
    Blocks of 8-bit keys and values are no larger, since no more lies in a page: twice as many are on their way.
    """
    tokens = 2**14 // (triton.next_power_of_2(head_dim) * element_size)
    if on_old_card:
        return Tile(tokens=max(16, min(32, tokens // 2)), num_warps=4, num_stages=1)
    return Tile(tokens=max(16, min(64, tokens)), num_warps=4, num_stages=5 if is_float8 else 3)


# Not specialised: what differs from step to step, or with the row at which a slice begins. Otherwise a
# kernel would be compiled again in the middle of a run.
@triton.jit(do_not_specialize=["table_row"], do_not_specialize_on_alignment=["block_tables", "context_lens"])
def _attend_part(
    q,
    k_cache,
    v_cache,
    block_tables,
    context_lens,
    out,
    partial,
    log_sum,
    scale_log2,
    q_row,
    q_head,
    k_page,
    k_slot,
    k_head,
    v_page,
    v_slot,
    v_head,
    table_row,
    out_row,
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
    PAGE_SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEAD_TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_NATIVE: tl.constexpr,
):
    """Serve one row, one KV head and one part of the context: the result, or the part's result and log2 of its sum.

    With `k_scales` and `v_scales` (else None) keys and values are 8-bit codes.
    """
    kv_head = tl.program_id(0)
    row = tl.program_id(1)
    split = tl.program_id(2)
    num_splits = tl.num_programs(2)
    context = tl.load(context_lens + row)
    num_blocks = tl.cdiv(context, BLOCK)
    blocks_per_split = tl.cdiv(num_blocks, num_splits)
    first = split * blocks_per_split
    last = min(first + blocks_per_split, num_blocks)
    if SPLIT:  # noqa: SIM102 (the outer one is decided when the kernel is compiled)
        if (first >= last) & (split > 0):
            return  # nothing left for this part

    member = tl.arange(0, GROUP_TILE)
    heads = kv_head * GROUP + member
    dim = tl.arange(0, HEAD_TILE)
    dim_ok = dim < HEAD_DIM
    head_ok = (member < GROUP)[:, None] & dim_ok[None, :]
    query = tl.load(q + row * q_row + heads[:, None] * q_head + dim[None, :], mask=head_ok, other=0.0)
    if k_scales is not None:
        query = multiplicand(query)
    table = block_tables + row * table_row
    k_base = k_cache + kv_head * k_head
    v_base = v_cache + kv_head * v_head

    running_max = tl.full([GROUP_TILE], float("-inf"), tl.float32)
    running_sum = tl.zeros([GROUP_TILE], tl.float32)
    acc = tl.zeros([GROUP_TILE, HEAD_TILE], tl.float32)
    for block in range(first, last):
        token = block * BLOCK + tl.arange(0, BLOCK)
        seen = token < context
        if PAGE_SIZE >= BLOCK:  # a block lies in one page
            page = tl.load(table + block // (PAGE_SIZE // BLOCK)).to(tl.int64)
            k_start = k_base + page * k_page
            v_start = v_base + page * v_page
            k_offset = (token % PAGE_SIZE) * k_slot
            v_offset = (token % PAGE_SIZE) * v_slot
            pages = page
        else:
            pages = tl.load(table + token // PAGE_SIZE, mask=seen, other=0).to(tl.int64)
            k_start = k_base
            v_start = v_base
            k_offset = pages * k_page + (token % PAGE_SIZE) * k_slot
            v_offset = pages * v_page + (token % PAGE_SIZE) * v_slot
        k = tl.load(k_start + k_offset[None, :] + dim[:, None], mask=seen[None, :] & dim_ok[:, None], other=0.0)
        if k_scales is None:
            scores = tl.dot(query, k, input_precision="ieee") * scale_log2
        else:
            k_scale_offset = pages * k_scale_page + (token % PAGE_SIZE) * k_scale_slot
            k_scale = tl.load(k_scales + kv_head * k_scale_head + k_scale_offset, mask=seen, other=0.0)
            k = numbers_of(k, query.dtype, IS_NATIVE)
            scores = tl.dot(query, k, input_precision="ieee") * (k_scale * scale_log2)[None, :]
        scores = tl.where(seen[None, :], scores, float("-inf"))
        new_max = tl.maximum(running_max, tl.max(scores, 1))  # finite: every block holds a token that is seen
        weights = tl.exp2(scores - new_max[:, None])
        shrink = tl.exp2(running_max - new_max)
        running_sum = running_sum * shrink + tl.sum(weights, 1)
        v = tl.load(v_start + v_offset[:, None] + dim[None, :], mask=seen[:, None] & dim_ok[None, :], other=0.0)
        if v_scales is not None:
            # As large as the values themselves, so that float16 holds the products with the weights.
            v_scale_offset = pages * v_scale_page + (token % PAGE_SIZE) * v_scale_slot
            v_scale = tl.load(v_scales + kv_head * v_scale_head + v_scale_offset, mask=seen, other=0.0)
            weights = weights * (v_scale * LARGEST)[None, :]
            v = numbers_of(v, query.dtype, IS_NATIVE)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        running_max = new_max

    if v_scales is not None:
        acc = acc / LARGEST
    if SPLIT:
        index = (row * tl.num_programs(0) * GROUP + heads) * num_splits + split
        tl.store(partial + index[:, None] * HEAD_DIM + dim[None, :], acc / running_sum[:, None], mask=head_ok)
        tl.store(log_sum + index, running_max + tl.log2(running_sum), mask=member < GROUP)
        if split == 0:  # for those that have nothing; minus infinity itself where the row is padding
            for unused in range(tl.cdiv(num_blocks, tl.maximum(blocks_per_split, 1)), num_splits):
                tl.store(log_sum + index + unused, float("-inf"), mask=(member < GROUP) & (unused > 0))
    else:
        result = acc / tl.where(running_sum == 0, 1.0, running_sum)[:, None]  # a padding row gets zeros
        target = out + row * out_row + heads[:, None] * out_head + dim[None, :]
        tl.store(target, result.to(out.dtype.element_ty), mask=head_ok)
