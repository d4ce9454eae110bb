"""Decides who wins a round between two answers, and computes rates from votes. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evaluation.toolbench.inference.records.statuses import SCORES
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.pass_rate import standard_error

Side = Literal["reference", "candidate"]
Winner = Literal["reference", "candidate", "tie"]
SIDES: tuple[Side, Side] = ("reference", "candidate")


@dataclass
class Pair:
    """Holds the two answers to a query, None where one is missing, and who won each round (None: undecided)."""

    query_id: str
    reference: ConvertedAnswer | None
    candidate: ConvertedAnswer | None
    winners: dict[int, Winner | None] = field(default_factory=dict)
    chosen: dict[int, Side] = field(default_factory=dict)  # by the judge, in rounds where it saw both answers

    def answer_of(self, side: Side) -> ConvertedAnswer | None:
        return self.reference if side == "reference" else self.candidate

    @property
    def query(self) -> str:
        answer = self.reference or self.candidate
        return answer.query if answer else ""

    def votes(self, side: Side) -> int:
        return sum(winner == side for winner in self.winners.values())

    @property
    def result(self) -> Winner:
        """Return who is ahead over all rounds."""
        reference, candidate = self.votes("reference"), self.votes("candidate")
        return "tie" if reference == candidate else "reference" if reference > candidate else "candidate"

    @property
    def is_undecided(self) -> bool:
        return None in self.winners.values()

    def winner_by_absence(self) -> Winner | None:
        """Return who wins because the other has no answer; None where both have one."""
        if self.reference is None and self.candidate is None:
            return "tie"
        if self.candidate is None:
            return "reference"
        return "candidate" if self.reference is None else None

    @property
    def has_changed_with_order(self) -> bool | None:
        """Return whether the judge chose another answer when it saw them the other way round; None if it never did."""
        by_order = [
            Counter(side for number, side in self.chosen.items() if shown_order(self.query_id, number)[0] == first)
            for first in SIDES
        ]
        if not all(by_order):
            return None
        first, second = (_ahead(counts) for counts in by_order)
        return first != second


@dataclass(frozen=True)
class PreferenceRate:
    """Holds fractions of all queries. `order_changed` is one of the pairs judged in both orders, None without."""

    win_rate: float
    lose_rate: float
    tie_rate: float
    stderr_queries: float | None
    order_changed: float | None


def preference_rate(pairs: Sequence[Pair]) -> PreferenceRate:
    """Return the rates of the candidate. `stderr_queries` is that of `win_rate` (ddof 1)."""
    results = Counter(pair.result for pair in pairs)
    seen_both_ways = [pair.has_changed_with_order for pair in pairs if pair.has_changed_with_order is not None]
    return PreferenceRate(
        win_rate=results["candidate"] / len(pairs),
        lose_rate=results["reference"] / len(pairs),
        tie_rate=results["tie"] / len(pairs),
        stderr_queries=standard_error([float(pair.result == "candidate") for pair in pairs]),
        order_changed=sum(seen_both_ways) / len(seen_both_ways) if seen_both_ways else None,
    )


def shown_order(query_id: str, round_number: int) -> tuple[Side, Side]:
    """Return the order in which a round shows the answers: swapped round by round, the first one from the id."""
    parity = hashlib.blake2b(query_id.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0]
    return SIDES if (parity + round_number) % 2 == 0 else (SIDES[1], SIDES[0])


def better_status(reference: str, candidate: str) -> Side | None:
    """Return whose status is higher, of Solved above Unsure above Unsolved; None for equals."""
    if SCORES[reference] == SCORES[candidate]:
        return None
    return "reference" if SCORES[reference] > SCORES[candidate] else "candidate"


def are_equal(reference: ConvertedAnswer, candidate: ConvertedAnswer) -> bool:
    """Return whether there is nothing to choose between them."""
    return all(_value(reference, key) == _value(candidate, key) for key in ("final_answer", "answer_details"))


def _value(answer: ConvertedAnswer, key: str) -> object:
    details: Mapping[str, object] = answer.answer
    return details[key]


def _ahead(counts: Counter[Side]) -> Side | None:
    reference, candidate = counts["reference"], counts["candidate"]
    return None if reference == candidate else "reference" if reference > candidate else "candidate"
