"""Describes one step: what the scheduler decides and the device runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from evaluation.toolbench.inference.engine.paged.sequence import Sequence


@dataclass(slots=True)  # not frozen: there is one for each row of each step, and frozen ones take longer to make
class StepRow:
    """Takes `count` tokens of a sequence from position `start` on; with the last, a token is drawn if `draws`."""

    sequence: Sequence
    start: int
    count: int
    draws: bool


@dataclass(frozen=True)
class Plan:
    """Lists a step's rows of one token, then those of several; `copies` of pages (from, to) come before either."""

    decode: list[StepRow]
    prefill: list[StepRow]
    copies: list[tuple[int, int]]
    batch: int = 0  # whose step it is

    @cached_property
    def rows(self) -> list[StepRow]:
        return self.decode + self.prefill

    @cached_property
    def drawing(self) -> list[StepRow]:
        """Return the rows that draw a token, in the order of the tokens."""
        return [row for row in self.rows if row.draws]
