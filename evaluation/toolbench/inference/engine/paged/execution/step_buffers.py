"""A step's inputs as one array of int32, so that they reach a device in one copy, and into one static buffer.

The tokens of all rows lie one after another. First come the rows of one token (decode), then those of
several (prefill). A CUDA graph is captured for one `StepShape`, whose sizes are upper limits: what a
step does not fill is padding, with rows of context 0 and slots of -1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from evaluation.toolbench.inference.engine.paged.scheduler import Plan, StepRow

Ints = npt.NDArray[np.int32]
Array = TypeVar("Array", Ints, torch.Tensor)  # on the host, or on a device

# Rows of a decode step, in steps small enough that padding costs little.
DECODE_ROWS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
# Beside prompt tokens a few rows more make no difference, and every pair of sizes is a graph.
MIXED_DECODE_ROWS = (0, 8, 16, 32, 48, 64, 96, 128, 192, 256)
# Tokens of a step that reads prompts, decode rows included. A GPU's tiles make many numbers in between no faster, and
# some slower: an 8B model's matrices take an H100 8.5 ms for 384 rows, 14.1 for 448 and 10.6 for 512.
MIXED_TOKENS = (16, 32, 64, 128, 192, 256, 320, 384, 512, 640, 768, 896, 1024, 1152, 1280)


@dataclass(frozen=True, slots=True)
class StepShape:
    """The sizes that a step's arrays follow from."""

    decode_rows: int
    prefill_rows: int
    prefill_tokens: int
    table_width: int  # pages of the longest sequence

    @property
    def num_tokens(self) -> int:
        return self.decode_rows + self.prefill_tokens

    @property
    def num_rows(self) -> int:
        return self.decode_rows + self.prefill_rows


def exact_shape(plan: Plan) -> StepShape:
    """No padding."""
    width = max(len(row.sequence.prefix.pages) for row in plan.rows)
    return StepShape(len(plan.decode), len(plan.prefill), sum(row.count for row in plan.prefill), width)


def graph_shape(plan: Plan, max_prefill_rows: int, table_width: int) -> StepShape | None:
    """The smallest shape of those that graphs are captured for; None for a step larger than all of them."""
    tokens = sum(row.count for row in plan.prefill)
    decode_rows = _round_up(len(plan.decode), MIXED_DECODE_ROWS if tokens else DECODE_ROWS)
    if decode_rows is None or len(plan.prefill) > max_prefill_rows:
        return None
    if not tokens:
        return StepShape(decode_rows, 0, 0, table_width)
    all_tokens = _round_up(decode_rows + tokens, MIXED_TOKENS)
    return None if all_tokens is None else _mixed_shape(decode_rows, max_prefill_rows, all_tokens, table_width)


def graph_shapes(
    *, max_decode_rows: int, max_prefill_rows: int, max_prefill_tokens: int, table_width: int
) -> list[StepShape]:
    """Every shape that `graph_shape` gives for steps within these limits, the largest first."""
    shapes = [StepShape(rows, 0, 0, table_width) for rows in _up_to(max_decode_rows, DECODE_ROWS)]
    shapes += [
        _mixed_shape(rows, max_prefill_rows, tokens, table_width)
        for rows in _up_to(max_decode_rows, MIXED_DECODE_ROWS)
        for tokens in _up_to(rows + max_prefill_tokens, MIXED_TOKENS)
        if tokens > rows
    ]
    return sorted(shapes, key=lambda shape: -shape.num_tokens)


def _mixed_shape(decode_rows: int, prefill_rows: int, all_tokens: int, table_width: int) -> StepShape:
    return StepShape(decode_rows, prefill_rows, all_tokens - decode_rows, table_width)


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """Where each array of a step of this shape lies in the buffer."""

    shape: StepShape

    @property
    def size(self) -> int:
        """Numbers in all."""
        return sum(_aligned(size) for size in self._sizes())

    def views(self, buffer: Array) -> StepArrays[Array]:
        """The arrays, as views of `buffer` (at least `size` long)."""
        parts: list[Array] = []
        start = 0
        for size in self._sizes():
            parts.append(buffer[start : start + size])
            start += _aligned(size)
        ids, token_rows, positions, slots, logit_tokens, contexts, starts, tables = parts
        return StepArrays(
            ids,
            token_rows,
            positions,
            slots,
            logit_tokens,
            contexts,
            starts,
            tables.reshape(self.shape.num_rows, self.shape.table_width),
        )

    def _sizes(self) -> list[int]:
        shape = self.shape
        return [
            *[shape.num_tokens] * 4,
            shape.num_rows,
            shape.num_rows,
            shape.prefill_rows + 1,
            shape.num_rows * shape.table_width,
        ]


@dataclass(frozen=True, slots=True)
class StepArrays(Generic[Array]):
    """T tokens of R rows, int32 each."""

    ids: Array  # (T,) token ids, where the host knows them
    token_rows: Array  # (T,) where the device keeps the id instead; -1: in `ids`
    positions: Array  # (T,)
    slots: Array  # (T,) page * page_size + offset
    logit_tokens: Array  # (R,) tokens to draw from, as many of the first as are drawn
    contexts: Array  # (R,) tokens of each row's sequence, this step's included
    starts: Array  # (prefill rows + 1,) where each prefill row begins, from the first of them on
    tables: Array  # (R, table_width) pages


def fill(plan: Plan, layout: StepBuffers, page_size: int) -> Ints:
    """The inputs of `plan` in an array of `layout.size`."""
    buffer = np.zeros(layout.size, dtype=np.int32)
    arrays = layout.views(buffer)
    arrays.token_rows[:] = -1
    arrays.slots[:] = -1
    decode_rows = layout.shape.decode_rows
    logit_tokens = []
    for index, row in enumerate(plan.decode):
        _fill_row(arrays, row, index, index, page_size)
        if row.draws:
            logit_tokens.append(index)
    start = decode_rows
    for index, row in enumerate(plan.prefill):
        _fill_row(arrays, row, decode_rows + index, start, page_size)
        start += row.count
        arrays.starts[index + 1] = start - decode_rows
        if row.draws:
            logit_tokens.append(start - 1)
    arrays.starts[len(plan.prefill) + 1 :] = start - decode_rows
    arrays.logit_tokens[: len(logit_tokens)] = logit_tokens
    return buffer


def _fill_row(arrays: StepArrays[Ints], row: StepRow, index: int, start: int, page_size: int) -> None:
    sequence, stop = row.sequence, row.start + row.count
    known = sequence.token_ids[row.start : stop]
    arrays.ids[start : start + len(known)] = known
    if len(known) < row.count:  # only the newest token can be on the device alone
        assert sequence.slot is not None  # it runs
        arrays.token_rows[start + row.count - 1] = sequence.slot
    positions = np.arange(row.start, stop)
    pages = np.asarray(sequence.prefix.pages, dtype=np.int32)
    arrays.positions[start : start + row.count] = positions
    arrays.slots[start : start + row.count] = pages[positions // page_size] * page_size + positions % page_size
    arrays.contexts[index] = stop
    num_pages = min(len(pages), arrays.tables.shape[1])
    arrays.tables[index, :num_pages] = pages[:num_pages]


def _up_to(largest: int, sizes: Items[int]) -> Items[int]:
    """The sizes that values up to `largest` are rounded up to."""
    return sizes[: bisect_left(sizes, largest) + 1]


def _aligned(size: int) -> int:
    """Room for `size` numbers that ends at 16 bytes: kernels are compiled anew for pointers that do not start there."""
    return -(-size // 4) * 4


def _round_up(value: int, sizes: Items[int]) -> int | None:
    index = bisect_left(sizes, value)
    return sizes[index] if index < len(sizes) else None
