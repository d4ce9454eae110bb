"""Compares two models' answers round by round, by a judge where no rule and no status decides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.inference.records.statuses import majority
from evaluation.toolbench.tooleval.asking import Asking
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.examiner import Examiner
from evaluation.toolbench.tooleval.judge.interface import Judge, Question
from evaluation.toolbench.tooleval.preference import (
    SIDES,
    Pair,
    PreferenceRate,
    Side,
    Winner,
    are_equal,
    better_status,
    preference_rate,
    shown_order,
)
from evaluation.toolbench.tooleval.preference_files import PreferenceFiles
from evaluation.toolbench.tooleval.verdict_log import EARLIER, VerdictLog

LONGEST_ANSWER = 1000  # characters of a final answer that a judge of preference sees

Statuses = Mapping[Side, Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class ComparedSet:
    """Holds what came of one set."""

    name: str
    pairs: Sequence[Pair]
    rate: PreferenceRate

    @property
    def undecided(self) -> list[str]:
        return [pair.query_id for pair in self.pairs if pair.is_undecided]

    def lines(self) -> list[str]:
        """Return the rates, for people."""
        rate = self.rate
        error = "n/a" if rate.stderr_queries is None else f"{rate.stderr_queries:.2%}"
        lines = [
            f"Win rate: {rate.win_rate:.2%} Lose rate: {rate.lose_rate:.2%} Tie rate: {rate.tie_rate:.2%}",
            f"  {self.name}, {len(self.pairs)} queries: standard error of the win rate {error}",
        ]
        if rate.order_changed is not None:
            lines[-1] += f"; {rate.order_changed:.0%} of the pairs seen in both orders changed their winner with it"
        for side in SIDES:
            missing = [pair.query_id for pair in self.pairs if pair.answer_of(side) is None]
            if missing:
                lines.append(f"  {len(missing)} without an answer of the {side}: {', '.join(missing[:10])}")
        if self.undecided:
            lines.append(f"  {len(self.undecided)} with undecided rounds: {', '.join(self.undecided[:10])}")
        return lines


@dataclass(frozen=True)
class PreferenceRun:
    """Compares two models over sets, into `folder`, by a judge that is open. `names` are the models' by side."""

    judge: Judge
    asking: Asking
    names: Mapping[Side, str]
    folder: Path
    num_rounds: int
    overwrite: bool = False

    async def compare(
        self,
        test_set: str,
        answers: Mapping[Side, Mapping[str, ConvertedAnswer]],
        ids: Sequence[str],
        statuses: Statuses | None,
    ) -> ComparedSet:
        """Return winners, files and rates of one set. `statuses` are the pass rates', None: judged in each round.

        ConfigError for another judge's verdicts, StoppedEarly where asking ends before its time, OutputError.
        """
        files = PreferenceFiles(self.folder, test_set, self.names)
        earlier = {} if self.overwrite else files.read_winners()
        with VerdictLog(files.verdicts, overwrite=self.overwrite) as log:
            log.check_judge(self.judge)
            if not log.has_judge:
                self._take_earlier(earlier, answers, ids, log)
            examiner = Examiner(self.judge, log)
            reference, candidate = (answers[side] for side in SIDES)
            pairs = [Pair(query_id, reference.get(query_id), candidate.get(query_id)) for query_id in ids]

            async def play(item: tuple[Pair, int]) -> None:
                pair, number = item
                pair.winners[number] = await self._winner(pair, number, statuses, examiner)

            rounds = itertools.product(pairs, range(self.num_rounds))
            total = len(pairs) * self.num_rounds
            await self.asking.for_each(rounds, play, total=total, name=test_set, examiner=examiner)
            rate = preference_rate(pairs)
            files.write(pairs, rate, self.judge, log)
        return ComparedSet(test_set, pairs, rate)

    async def _winner(self, pair: Pair, number: int, statuses: Statuses | None, examiner: Examiner) -> Winner | None:
        absent = pair.winner_by_absence()
        if absent is not None:
            return absent
        earlier = examiner.log.verdict((pair.query_id, number, EARLIER, ""))
        if earlier is not None:
            return next((side for side, name in self.names.items() if name == earlier), "tie")
        shown = {side: answer.for_comparison(LONGEST_ANSWER) for side, answer in _answers(pair)}
        words: list[str] = []
        for side in SIDES:
            given = majority(statuses[side].get(pair.query_id, ())) if statuses else None
            word = given or await examiner.status(shown[side], number, model=self.names[side], with_reason=False)
            if word is None:
                return None
            words.append(word)
        return better_status(*words) or await self._select(pair, number, shown, examiner)

    async def _select(
        self, pair: Pair, number: int, shown: Mapping[Side, ConvertedAnswer], examiner: Examiner
    ) -> Winner | None:
        """Return the better of two answers of equal status; a tie where they are equal or the judge cannot choose."""
        check = self.judge.select_check
        if check is None or are_equal(shown["reference"], shown["candidate"]):
            return "tie"
        order = shown_order(pair.query_id, number)
        question = Question(pair.query_id, number, check, tuple(shown[side] for side in order))
        index = await examiner.verdict(question)
        if index is None:
            return None
        pair.chosen[number] = order[int(index)]
        return order[int(index)]

    def _take_earlier(
        self,
        earlier: Mapping[str, Sequence[Side]],
        answers: Mapping[Side, Mapping[str, ConvertedAnswer]],
        ids: Sequence[str],
        log: VerdictLog,
    ) -> None:
        taken = 0
        for query_id in ids:
            if all(query_id in answers[side] for side in SIDES):
                for number, side in enumerate(earlier.get(query_id, ())):
                    log.append_earlier(query_id, number, self.names[side])
                    taken += 1
        if taken:
            self.judge.warn(
                f"{taken} rounds are taken from an earlier scoring, which does not say whose they are; --overwrite "
                "asks anew"
            )


def _answers(pair: Pair) -> Iterator[tuple[Side, ConvertedAnswer]]:
    for side in SIDES:
        answer = pair.answer_of(side)
        if answer is not None:
            yield side, answer
