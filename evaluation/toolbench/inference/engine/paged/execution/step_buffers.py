"""Lays a step's inputs into one int32 array, so that they reach a device, and a static buffer, in one copy.

The tokens of all rows lie one after another. First come the rows of one token (decode), then those of
several (prefill). A CUDA graph is captured for one `StepShape`, whose sizes are upper limits: what a
step does not fill is padding, with rows of context 0 and KV slots of -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from evaluation.toolbench.inference.engine.paged.plan import Plan
from evaluation.toolbench.inference.engine.paged.step_sizes import (
    DECODE_ROWS,
    MIXED_DECODE_ROWS,
    MIXED_TOKENS,
    decode_rows,
    mixed_decode_rows,
    mixed_tokens,
    up_to,
)

Ints = npt.NDArray[np.int32]
Array = TypeVar("Array", Ints, torch.Tensor)  # on the host, or on a device


@dataclass(frozen=True, slots=True)
class StepShape:
    """Holds the sizes that a step's arrays follow from."""

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
    """Return the shape of `plan` without padding."""
    width = max(len(row.sequence.prefix.pages) for row in plan.rows)
    return StepShape(len(plan.decode), len(plan.prefill), sum(row.count for row in plan.prefill), width)


def graph_shape(plan: Plan, max_prefill_rows: int, table_width: int) -> StepShape | None:
    """Return the smallest shape of those that graphs are captured for; None for a step larger than all of them."""
    tokens = sum(row.count for row in plan.prefill)
    if not tokens:
        rows = decode_rows(len(plan.decode))
        return None if rows is None else StepShape(rows, 0, 0, table_width)
    rows = mixed_decode_rows(len(plan.decode))
    if rows is None or len(plan.prefill) > max_prefill_rows:
        return None
    all_tokens = mixed_tokens(rows + tokens)
    return None if all_tokens is None else _mixed_shape(rows, max_prefill_rows, all_tokens, table_width)


def graph_shapes(
    *, max_decode_rows: int, max_prefill_rows: int, max_prefill_tokens: int, table_width: int
) -> list[StepShape]:
    """Return every shape that `graph_shape` gives for steps within these limits, the largest first."""
    shapes = [StepShape(rows, 0, 0, table_width) for rows in up_to(max_decode_rows, DECODE_ROWS)]
    shapes += [
        _mixed_shape(rows, max_prefill_rows, tokens, table_width)
        for rows in up_to(max_decode_rows, MIXED_DECODE_ROWS)
        for tokens in up_to(rows + max_prefill_tokens, MIXED_TOKENS)
        if tokens > rows
    ]
    return sorted(shapes, key=lambda shape: -shape.num_tokens)


def _mixed_shape(decode_rows: int, prefill_rows: int, all_tokens: int, table_width: int) -> StepShape:
    return StepShape(decode_rows, prefill_rows, all_tokens - decode_rows, table_width)


class StepBuffers:
    """Knows where each array of a step of this shape lies in the buffer."""

    def __init__(self, shape: StepShape) -> None:
        self.shape = shape
        rows = shape.num_rows
        sizes = [
            *[shape.num_tokens] * 4,
            *[rows] * 13,
            2 * rows,
            shape.prefill_rows + 1,
            rows * shape.table_width,
        ]
        self._parts: list[slice] = []
        start = 0
        for size in sizes:
            self._parts.append(slice(start, start + size))
            start += _aligned(size)
        self.size = start  # numbers in all
        self.tables_start = self._parts[-1].start  # those before are few

    def views(self, buffer: Array) -> StepArrays[Array]:
        """Return the arrays, as views of `buffer` (at least `size` long)."""
        parts: list[Any] = [buffer[part] for part in self._parts]
        parts[-1] = parts[-1].reshape(self.shape.num_rows, self.shape.table_width)
        return StepArrays(*parts)


@dataclass(frozen=True, slots=True)
class StepArrays(Generic[Array]):
    """Holds T tokens of R rows, int32 each. What is drawn from D of the rows is at the start of arrays of R."""

    ids: Array  # (T,) token ids, where the host knows them
    token_slots: Array  # (T,) slots whose last token, kept on the device, is the id instead; 0: it is in `ids`
    positions: Array  # (T,)
    kv_slots: Array  # (T,) page * page_size + offset
    contexts: Array  # (R,) tokens of each row's sequence, this step's included
    logit_tokens: Array  # (R,) tokens to draw from
    draw_rows: Array  # (R,) rows whose last tokens those are
    draw_slots: Array  # (R,) slots whose last token becomes the one drawn; 0, which is nobody's: padding
    kept_slots: Array  # (R,) the same, where every draw is greedy; else zeros
    draw_positions: Array  # (R,) tokens that were generated before
    special: Array  # (R,) which of the draws are special, see `Draws`
    nodes: Array  # (R,) of the special draws: where each is in its trie; -1: where the device has it
    penalty: Array  # (R,) of the special draws, for repetition: the bits of a float32
    sampled: Array  # (R,) which of the special draws are sampled
    temperature: Array  # (R,) of the sampled draws, the bits of a float32
    top_k: Array  # (R,)
    top_p: Array  # (R,) the bits of a float32
    seed: Array  # (2R,) the bits of an int64
    starts: Array  # (prefill rows + 1,) where each prefill row begins, from the first of them on
    tables: Array  # (R, table_width) pages


def _aligned(size: int) -> int:
    """Return room for `size` numbers that ends at 16 bytes: kernels are compiled anew for pointers that do not."""
    return -(-size // 4) * 4
