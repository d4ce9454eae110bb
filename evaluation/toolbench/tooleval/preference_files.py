"""Writes the files of a comparison as ToolEval: `<set>_<reference>_<candidate>.json`, `.csv`, `_results.json`."""

from __future__ import annotations

import ast
import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.statuses import parse_statuses
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.interface import Judge
from evaluation.toolbench.tooleval.pass_rate_files import read_statuses
from evaluation.toolbench.tooleval.preference import SIDES, Pair, PreferenceRate, Side
from evaluation.toolbench.tooleval.result_files import is_ours, read_object, write_object, write_rows
from evaluation.toolbench.tooleval.verdict_log import VerdictLog

_CSV_COLUMNS = (
    "query",
    "available_tools",
    "ref_model_intermediate_steps",
    "ref_model_final_step",
    "output_model_intermediate_steps",
    "output_model_final_step",
    "preference_label",
    "query_id",
    "ref_model",
    "output_model",
)
_LABELS = {"reference": 1, "candidate": 2, "tie": 3}
_COMPLETE, _INCOMPLETE = "complete", "incomplete"


class PreferenceFiles:
    """Writes the files of two models and one set in a folder. `names` are the models' by side."""

    def __init__(self, folder: Path, test_set: str, names: Mapping[Side, str]) -> None:
        self._folder = folder
        self._names = names
        self._stem = f"{test_set}_{names['reference']}_{names['candidate']}"

    @property
    def verdicts(self) -> Path:
        return self._folder / f"{self._stem}_verdicts.jsonl"

    @property
    def results(self) -> Path:
        return self._folder / f"{self._stem}_results.json"

    def read_winners(self) -> dict[str, list[Side]]:
        """Return query id -> winners of the rounds that an earlier scoring by ToolEval completed. DataError.

        Which round each won is not in the file. Who is ahead comes first, so that fewer rounds than those have the same
        result. Queries with incomplete rounds are left out: ToolEval counts the votes of those anew with each start.
        Ours are made anew from the log of verdicts and from pass rates, which may have changed.
        """
        winners: dict[str, list[Side]] = {}
        if self.verdicts.exists() and is_ours(self.results):
            return winners
        for query_id, entry in (read_object(self._folder / f"{self._stem}.json") or {}).items():
            if not isinstance(entry, dict):
                continue
            rounds = [value for key, value in entry.items() if key.startswith("round_")]
            votes: dict[Side, Any] = {side: entry.get(name) for side, name in self._names.items()}
            if all(value == _COMPLETE for value in rounds) and all(isinstance(each, int) for each in votes.values()):
                ahead_first = sorted(SIDES, key=lambda side: -votes[side])
                most = len(rounds)
                winners[query_id] = [side for side in ahead_first for _ in range(min(votes[side], most))][:most]
        return winners

    def write(self, pairs: Sequence[Pair], rate: PreferenceRate, judge: Judge, log: VerdictLog) -> None:
        """Write all of them, the results last. OutputError."""
        entries = {pair.query_id: self._entry(pair) for pair in pairs}
        write_object(self._folder / f"{self._stem}.json", entries, indent=4)
        write_rows(self._folder / f"{self._stem}.csv", _CSV_COLUMNS, map(self._csv_row, pairs))
        write_object(self.results, self._results(pairs, rate, judge, log), indent=2)

    def _entry(self, pair: Pair) -> dict[str, Any]:
        rounds = sorted(pair.winners.items())
        return {
            **{name: pair.votes(side) for side, name in self._names.items()},
            **{f"round_{number}": _COMPLETE if winner else _INCOMPLETE for number, winner in rounds},
        }

    def _csv_row(self, pair: Pair) -> list[Any]:
        steps = [part for answer in (pair.reference, pair.candidate) for part in _steps(answer)]
        return [pair.query, [], *steps, _LABELS[pair.result], pair.query_id, *self._names.values()]

    def _results(self, pairs: Sequence[Pair], rate: PreferenceRate, judge: Judge, log: VerdictLog) -> dict[str, Any]:
        numbers = asdict(rate)
        return {
            **{key: numbers.pop(key) for key in ("win_rate", "lose_rate", "tie_rate")},
            "reference_model": self._names["reference"],
            "candidate_model": self._names["candidate"],
            "missing": {
                name: [pair.query_id for pair in pairs if pair.answer_of(side) is None]
                for side, name in self._names.items()
            },
            "undecided": [pair.query_id for pair in pairs if pair.is_undecided],
            **numbers,
            **log.account(judge),
        }


def read_pass_rate_statuses(folder: Path, test_set: str, model: str) -> dict[str, list[str]]:
    """Return query id -> the statuses of `eval_pass_rate`, from its JSON, else its CSV. DataError without either."""
    stem = folder / model / f"{test_set}_{model}"
    by_repeat = read_statuses(stem.with_name(stem.name + ".json")) or _statuses_of_csv(
        stem.with_name(stem.name + ".csv")
    )
    return {query_id: list(statuses.values()) for query_id, statuses in by_repeat.items()}


def _statuses_of_csv(path: Path) -> dict[str, dict[int, str]]:
    """Read the last column, which holds a dictionary as Python prints it."""
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {row["query_id"]: parse_statuses(ast.literal_eval(row["is_solved"])) for row in rows}
    except FileNotFoundError:
        raise DataError(
            f"no pass rate at {path.with_suffix('.json')} (nor .csv), which --use_pass_rate true needs: run "
            "eval_pass_rate first, or name its folder with --pass_rate_result_path"
        ) from None
    except (OSError, ValueError, SyntaxError, KeyError, AttributeError, csv.Error) as error:
        raise DataError(f"{path} is not a pass rate's table: {error!r}") from error


def _steps(answer: ConvertedAnswer | None) -> tuple[str, str]:
    return (answer.answer_steps, answer.final_step) if answer else ("", "")
