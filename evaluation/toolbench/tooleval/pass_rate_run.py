"""Scores converted answers: asks the judge what no rule and no earlier verdict decides, and writes the files."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.json_input import JsonError, read_json
from evaluation.toolbench.tooleval.asking import Asking
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.examiner import Examiner
from evaluation.toolbench.tooleval.judge.interface import Judge
from evaluation.toolbench.tooleval.pass_rate import JUDGED, MISSING, UNDECIDED, PassRate, QueryScore, pass_rate
from evaluation.toolbench.tooleval.pass_rate_files import PassRateFiles
from evaluation.toolbench.tooleval.verdict_log import VerdictLog


@dataclass(frozen=True)
class ScoredSet:
    """Holds what came of one set."""

    name: str
    queries: Sequence[QueryScore]
    rate: PassRate

    def ids_of(self, state: str) -> list[str]:
        return [query.query_id for query in self.queries if query.state == state]

    def lines(self) -> list[str]:
        """Return ToolEval's line, and the number over all queries, for people."""
        rate, missing, undecided = self.rate, self.ids_of(MISSING), self.ids_of(UNDECIDED)
        answered = len(self.queries) - len(missing)
        lines = [
            f"Solve rate: {_percent(rate.solve_rate)} Std: {_percent(rate.std_dev)}",
            f"  {self.name}, all {len(self.queries)} queries: {_percent(rate.solve_rate_all)}, standard error "
            f"{_percent(rate.stderr_queries)} over queries, {_percent(rate.stderr_repeats)} over repeats "
            f"(the line above: over the {answered} answered)",
        ]
        if missing:
            lines.append(f"  {len(missing)} without an answer, which count as unsolved: {_some(missing)}")
        if undecided:
            lines.append(f"  {len(undecided)} undecided, whose missing verdicts count 0: {_some(undecided)}")
        return lines


@dataclass(frozen=True)
class PassRateRun:
    """Scores sets of one model into `folder`, by a judge that is open."""

    judge: Judge
    asking: Asking
    model: str
    folder: Path
    num_repeats: int
    overwrite: bool = False

    async def score(self, test_set: str, answers: Mapping[str, ConvertedAnswer], ids: Sequence[str]) -> ScoredSet:
        """Return verdicts, files and the rate of one set.

        ConfigError for another judge's verdicts, StoppedEarly where asking ends before its time, OutputError.
        """
        files = PassRateFiles(self.folder, test_set, self.model)
        earlier = {} if self.overwrite else files.read_statuses()
        with VerdictLog(files.verdicts, overwrite=self.overwrite) as log:
            log.check_judge(self.judge)
            self._warn_of_other_judges(files)
            examiner = Examiner(self.judge, log)
            asked = [answers[query_id] for query_id in ids if query_id in answers]
            if not log.has_judge:  # what ToolEval wrote; later it is our own file
                self._take_earlier(earlier, asked, log)
            verdicts: dict[tuple[str, int], str | None] = {}

            async def decide(item: tuple[ConvertedAnswer, int]) -> None:
                answer, repeat = item
                verdicts[answer.query_id, repeat] = await examiner.status(answer, repeat)

            items = itertools.product(asked, range(self.num_repeats))
            total = len(asked) * self.num_repeats
            await self.asking.for_each(items, decide, total=total, name=test_set, examiner=examiner)
            queries = [self._query_score(query_id, answers.get(query_id), verdicts) for query_id in ids]
            rate = pass_rate(queries, self.num_repeats)
            files.write(queries, answers, rate, self.judge, log, self.num_repeats)
        return ScoredSet(test_set, queries, rate)

    def _query_score(
        self, query_id: str, answer: ConvertedAnswer | None, verdicts: Mapping[tuple[str, int], str | None]
    ) -> QueryScore:
        if answer is None:
            return QueryScore(query_id, MISSING)
        of_query = tuple(verdicts[query_id, repeat] for repeat in range(self.num_repeats))
        state = answer.state if self.judge.is_decided_by_rule(answer) else JUDGED
        return QueryScore(query_id, UNDECIDED if None in of_query else state, of_query, answer.total_steps)

    def _take_earlier(
        self, earlier: Mapping[str, Mapping[int, str]], asked: Sequence[ConvertedAnswer], log: VerdictLog
    ) -> None:
        taken = 0
        for answer in asked:
            if not self.judge.is_decided_by_rule(answer):
                for repeat, verdict in earlier.get(answer.query_id, {}).items():
                    log.append_earlier(answer.query_id, repeat, verdict)
                    taken += 1
        if taken:
            self.judge.warn(
                f"{taken} verdicts are taken from an earlier scoring, which does not say whose they are; --overwrite "
                "asks anew"
            )

    def _warn_of_other_judges(self, files: PassRateFiles) -> None:
        """Say so where this model's results of other sets in the folder are another judge's."""
        model = self.judge.describe()["model"]
        for path in sorted(self.folder.glob(f"*_{glob.escape(self.model)}_results.json")):
            try:
                other = read_json(path)["judge"]["model"]
            except (OSError, JsonError, KeyError, TypeError):
                continue
            if path != files.results and other != model:
                self.judge.warn(f"{path.name} beside it is by another judge, {other}: not comparable with {model}'s")


def _percent(number: float | None) -> str:
    return "n/a" if number is None else f"{number:.2f}%"


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return ", ".join(ids[:10]) + more
