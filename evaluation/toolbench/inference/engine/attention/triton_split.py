"""Divides the contexts of prompts over programs.

The grid follows from shapes, its use from the lengths, which are on the device: every program reads all of them and
comes to the same division. Items of long contexts come first, so that no long one is left at the end. Few tiles leave
most of the card idle; where shapes allow for that, contexts are cut into parts until each program has one.
"""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN201
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

SMALLEST_PART = 256  # tokens: a part's result is as many bytes as 128 tokens of K and V, written and read again
_MAX_PARTS = 8
_ROUNDS = 1  # programs of a cut step, in multiples of what runs at once; 0: contexts stay whole
_SORTED_ROWS = tl.constexpr(64)  # among more sequences a long one matters less than to sort them costs


@dataclass(frozen=True)
class Split:
    """Says how contexts are cut: into as many programs of a KV head as `programs`, and `parts` of a tile, at most."""

    programs: int
    parts: int


WHOLE = Split(programs=0, parts=1)


def choose_split(num_tiles: int, num_kv_heads: int, programs_at_once: int) -> Split:
    """Cut contexts where a step of this shape can leave half of the card idle: `num_tiles` are the fewest it has.

    With more tiles than that their parts would wait for each other, and take as long as the whole does.

    >>> [choose_split(num_tiles, num_kv_heads=8, programs_at_once=132).parts for num_tiles in (1, 4, 7, 8, 9, 24)]
    [8, 8, 4, 4, 1, 1]
    """
    programs = _ROUNDS * programs_at_once // num_kv_heads
    if programs < 2 * num_tiles:
        return WHOLE
    # Twice what equal tiles would get: there may be fewer of them, and some have longer contexts.
    return Split(programs, min(_MAX_PARTS, 2 * (programs // num_tiles)))


def length_of_lookup(batch: int) -> int:
    """Return how many sequences `item_of` looks at: a power of 4, since the kernel is compiled for each."""
    return int(4 ** max(2, -(-(batch - 1).bit_length() // 2)))


@triton.jit
def item_of(
    item,
    context_lens,
    cu_seqlens_q,
    batch,
    programs,
    max_parts,
    SPLIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK: tl.constexpr,
    SMALLEST_PART: tl.constexpr,
):
    """Return what a program does: a sequence, which of its tiles and parts (tiles change first), how many parts its
    tiles have. The sequence is -1 where nothing is left to do.
    """
    row = tl.arange(0, ROWS)
    start = tl.load(cu_seqlens_q + row, mask=row < batch, other=0)
    end = tl.load(cu_seqlens_q + row + 1, mask=row < batch, other=0)
    num_blocks = tl.cdiv(tl.load(context_lens + row, mask=row < batch, other=0), BLOCK)
    items = tl.cdiv(end - start, BLOCK_Q)  # tiles
    length = num_blocks  # of an item
    parts = tl.full([ROWS], 1, tl.int32)
    if SPLIT:
        # A tile of n blocks has at most n // length + 1 parts of that length, so all have a program.
        spare = programs - tl.sum(items, 0)
        shortest = tl.cdiv(tl.sum(items * num_blocks, 0), tl.maximum(spare, 1))
        shortest = tl.maximum(shortest, SMALLEST_PART)
        wanted = tl.minimum(tl.cdiv(num_blocks, shortest), max_parts)
        parts = tl.where(spare > 0, tl.maximum(wanted, 1), 1)
        items *= parts
        length = tl.cdiv(num_blocks, parts)
    if ROWS <= _SORTED_ROWS:
        is_longer = length[:, None] > length[None, :]
        is_before = is_longer | ((length[:, None] == length[None, :]) & (row[:, None] < row[None, :]))
        first = tl.sum(tl.where(is_before, items[:, None], 0), 0)
    else:
        first = tl.cumsum(items, 0) - items
    is_mine = (first <= item) & (item < first + items)
    mine = tl.max(tl.where(is_mine, row, -1), 0)
    index = item - tl.sum(tl.where(is_mine, first, 0), 0)
    return mine, index, tl.sum(tl.where(is_mine, parts, 0), 0)
