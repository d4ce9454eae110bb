"""Copies pages of all tensors of a device in one Triton kernel, which finds the tensors by their addresses."""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

# By the bytes of a word: Triton's type, and how many of it make a word (Triton has none of 16 bytes).
ELEMENTS = {16: (tl.int64, 2), 8: (tl.int64, 1), 4: (tl.int32, 1), 2: (tl.int16, 1), 1: (tl.int8, 1)}
BLOCK = 2048  # elements that a program loads before it stores them
NUM_WARPS = 8


@dataclass(frozen=True, slots=True)
class PageTable:
    """Says where the pages of a device lie. It holds addresses: the tensors must outlive it."""

    rows: torch.Tensor  # (parts, 2) int64, on that device: address of a part's first page, and words of each page
    word_bytes: int  # a power of two up to 16, of which all addresses and pages are multiples


def page_table(parts: Sequence[torch.Tensor]) -> PageTable:
    """Return the table of `parts`, (num_pages, ...) each, on one device; the pages of each lie one after another."""
    starts = [part.data_ptr() for part in parts]
    sizes = [part.stride(0) * part.itemsize for part in parts]
    word_bytes = math.gcd(16, *starts, *sizes)
    rows = [[start, size // word_bytes] for start, size in zip(starts, sizes, strict=True)]
    return PageTable(torch.tensor(rows, dtype=torch.int64, device=parts[0].device), word_bytes)


def copy_pages(table: PageTable, copies: torch.Tensor) -> None:
    """Copy pages in all parts; `copies` (N, 2) int64 has those to copy from and to; no page is in both columns."""
    element, per_word = ELEMENTS[table.word_bytes]
    with torch.cuda.device_of(copies):
        _copy_page[len(copies), len(table.rows)](
            table.rows,
            copies,
            WORD_BYTES=table.word_bytes,
            ELEMENT=element,
            PER_WORD=per_word,
            BLOCK=BLOCK,
            num_warps=NUM_WARPS,
        )


@triton.jit
def _copy_page(
    table,
    copies,
    WORD_BYTES: tl.constexpr,
    ELEMENT: tl.constexpr,
    PER_WORD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Copy one page of one part."""
    copy = tl.program_id(0)
    part = tl.program_id(1)
    first = tl.load(table + 2 * part)
    num_words = tl.load(table + 2 * part + 1)
    page_bytes = num_words * WORD_BYTES
    source = first + tl.load(copies + 2 * copy) * page_bytes
    target = first + tl.load(copies + 2 * copy + 1) * page_bytes
    # Triton cannot see this of an address that it loads, and moves 16 bytes at once where it knows. It forgets what was
    # said of the integer when that becomes a pointer.
    source = tl.multiple_of(source.to(tl.pointer_type(ELEMENT)), WORD_BYTES)
    target = tl.multiple_of(target.to(tl.pointer_type(ELEMENT)), WORD_BYTES)
    num_elements = num_words * PER_WORD
    for start in range(0, num_elements, BLOCK):
        element = start + tl.arange(0, BLOCK)
        ok = element < num_elements
        tl.store(target + element, tl.load(source + element, mask=ok), mask=ok)
