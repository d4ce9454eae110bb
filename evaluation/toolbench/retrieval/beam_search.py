"""Holds the rules of a beam search without a model: transformers 5's `generate(do_sample=False, num_beams=...)`.

The caller scores the continuations of `BeamSearch.beams` in whatever way it likes and hands them to `advance`. Sums are
float32, as they are there, so that the same log-probabilities lead to the same order.

transformers fills its beams up with continuations that are not allowed, and with repeated ones, at scores below -1e8
where there are fewer allowed ones than beams. Such fillers never displace a real continuation and never end a search
that a real one could still improve. They are left out here: a search may return fewer results than its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np

from evaluation.toolbench.inference.errors import ConfigError

EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True, slots=True)
class SearchRules:
    """Say what ends a path, and how finished paths are compared. The defaults are those of transformers.

    A path's score is its sum of log-probabilities divided by length ** `length_penalty`, the end token counted.
    `early_stopping` False ends the search when the best open path, at its present length, would not enter the list;
    True as soon as the list is full; "never" when not even the longest path could enter it. `repetition_penalty` is for
    whoever scores: it multiplies the log-probabilities of tokens that prompt and path have.
    """

    end_id: int
    max_new_tokens: int = 64
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"a beam search needs max_new_tokens of at least 1, not {self.max_new_tokens}")


class Continuations(Protocol):
    """Lists the tokens that may follow a beam, best first, and their log-probabilities, which are float32."""

    @property
    def token_ids(self) -> Sequence[int]: ...

    @property
    def log_probabilities(self) -> Sequence[float]: ...


class Beam(NamedTuple):
    """Holds a path that goes on; `sum` is the float32 sum of its log-probabilities."""

    token_ids: tuple[int, ...]
    sum: float


class Hypothesis(NamedTuple):
    """Holds a path that has ended, with the end token unless the length limit ended it."""

    token_ids: tuple[int, ...]
    sum: float
    score: float


@dataclass
class BeamSearch:
    """Searches once with `width` beams. `results` has at most `width` finished paths, best first."""

    width: int
    rules: SearchRules
    beams: list[Beam] = field(default_factory=lambda: [Beam((), 0.0)])
    results: list[Hypothesis] = field(default_factory=list)
    is_over: bool = False

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"a beam search needs a width of at least 1, not {self.width}")

    @property
    def num_wanted(self) -> int:
        """Return how many continuations of each beam can matter; fewer are fine where fewer are allowed."""
        return 2 * self.width

    def advance(self, continuations: Sequence[Continuations]) -> None:
        """Take one step; `continuations` belong to `beams`, in their order."""
        length = len(self.beams[0].token_ids) + 1
        is_last = length == self.rules.max_new_tokens
        next_beams: list[Beam] = []
        for rank, beam in enumerate(self._best(continuations)):
            if beam.token_ids[-1] != self.rules.end_id and not is_last:
                next_beams.append(beam)
            elif rank < self.width:  # a path that ends further down is lost
                self.results.append(Hypothesis(beam.token_ids, beam.sum, self._score(beam.sum, length)))
        self.results.sort(key=lambda hypothesis: -hypothesis.score)
        del self.results[self.width :]
        self.beams = next_beams[: self.width]
        self.is_over = not self.beams or not self._may_improve(length)

    def _best(self, continuations: Sequence[Continuations]) -> list[Beam]:
        """Return the best of all continuations: twice the width, so that enough are left where some end."""
        pairs = list(zip(self.beams, continuations, strict=True))
        # Sums of two float32 numbers that are rounded to float32 but now are what they would be in float32.
        sums = np.array([beam.sum + value for beam, each in pairs for value in each.log_probabilities], np.float32)
        paths = [(beam.token_ids, token) for beam, each in pairs for token in each.token_ids]
        order = np.argsort(-sums, kind="stable")[: self.num_wanted]
        best = zip(order.tolist(), sums[order].tolist(), strict=True)
        return [Beam((*paths[index][0], paths[index][1]), total) for index, total in best]

    def _may_improve(self, length: int) -> bool:
        if len(self.results) < self.width:
            return True
        if self.rules.early_stopping is True:
            return False
        longest = self.rules.early_stopping == "never" and self.rules.length_penalty > 0
        best = self._score(self.beams[0].sum, self.rules.max_new_tokens if longest else length)
        return best > self.results[-1].score

    def _score(self, total: float, length: int) -> float:
        return float(np.float32(total) / np.float32(length**self.rules.length_penalty))
