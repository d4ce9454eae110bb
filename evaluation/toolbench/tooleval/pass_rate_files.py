"""Writes the files of a pass rate: `<set>_<model>.json`, `.csv`, `_results.json` as ToolEval; `_queries.tsv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.records.statuses import FILE_PREFIX, parse_statuses
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.interface import Judge
from evaluation.toolbench.tooleval.pass_rate import JUDGED, MISSING, UNDECIDED, PassRate, QueryScore
from evaluation.toolbench.tooleval.result_files import is_ours, read_object, write_object, write_rows, write_tsv
from evaluation.toolbench.tooleval.verdict_log import Tokens, VerdictLog

_CSV_COLUMNS = (
    "query",
    "available_tools",
    "model_intermediate_steps",
    "model_final_step",
    "model",
    "query_id",
    "is_solved",
)


class PassRateFiles:
    """Writes the files of one model and one set in a folder."""

    def __init__(self, folder: Path, test_set: str, model: str) -> None:
        self._folder = folder
        self._model = model
        self._stem = f"{test_set}_{model}"

    @property
    def verdicts(self) -> Path:
        return self._folder / f"{self._stem}_verdicts.jsonl"

    @property
    def results(self) -> Path:
        return self._folder / f"{self._stem}_results.json"

    def read_statuses(self) -> dict[str, dict[int, str]]:
        """Return query id -> repeat -> status, as ToolEval's scoring has them; empty without one. DataError.

        Ours are in the log of verdicts, where it is seen whether their answers have changed.
        """
        if self.verdicts.exists() and is_ours(self.results):
            return {}
        return read_statuses(self._folder / f"{self._stem}.json")

    def write(
        self,
        queries: Sequence[QueryScore],
        answers: Mapping[str, ConvertedAnswer],
        rate: PassRate,
        judge: Judge,
        log: VerdictLog,
        num_repeats: int,
    ) -> None:
        """Write all of them, the results last. OutputError."""
        answered = [(query, answers[query.query_id]) for query in queries if query.state != MISSING]
        write_object(
            self._folder / f"{self._stem}.json", {query.query_id: _entry(query, a) for query, a in answered}, indent=4
        )
        write_rows(
            self._folder / f"{self._stem}.csv", _CSV_COLUMNS, (_csv_row(query, a, self._model) for query, a in answered)
        )
        repeats = [f"repeat_{number}" for number in range(num_repeats)]
        write_tsv(
            self._folder / f"{self._stem}_queries.tsv",
            ["query_id", "state", *repeats, "score", "total_steps", "prompt_tokens", "completion_tokens"],
            (_tsv_row(query, num_repeats, log.tokens.get(query.query_id, Tokens())) for query in queries),
        )
        write_object(self.results, _results(queries, rate, judge, log), indent=2)


def read_statuses(path: Path) -> dict[str, dict[int, str]]:
    """Return the statuses in a pass rate's JSON; entries without any are left out. DataError for another file."""
    statuses: dict[str, dict[int, str]] = {}
    for query_id, entry in (read_object(path) or {}).items():
        is_solved = entry.get("is_solved") if isinstance(entry, dict) else None
        if isinstance(is_solved, dict):
            statuses[query_id] = parse_statuses(is_solved)
    return statuses


def _statuses(query: QueryScore) -> dict[int, str]:
    return {repeat: FILE_PREFIX + verdict for repeat, verdict in enumerate(query.verdicts) if verdict}


def _entry(query: QueryScore, answer: ConvertedAnswer) -> dict[str, Any]:
    return {
        "query": answer.query,
        "tool_names": answer.tool_names,
        "answer_steps": answer.answer_steps,
        "final_step": answer.final_step,
        "is_solved": {str(repeat): status for repeat, status in _statuses(query).items()},
    }


def _csv_row(query: QueryScore, answer: ConvertedAnswer, model: str) -> list[Any]:
    steps, final = answer.answer_steps, answer.final_step
    return [answer.query, answer.tool_names, steps, final, model, query.query_id, _statuses(query)]


def _tsv_row(query: QueryScore, num_repeats: int, tokens: Tokens) -> list[Any]:
    verdicts = [*query.verdicts, *[None] * (num_repeats - len(query.verdicts))]
    scores = query.scores(num_repeats)
    score = f"{sum(scores) / len(scores):.4f}"
    return [query.query_id, query.state, *verdicts, score, query.total_steps, tokens.prompt, tokens.completion]


def _results(queries: Sequence[QueryScore], rate: PassRate, judge: Judge, log: VerdictLog) -> dict[str, Any]:
    by_state = {
        state: [query.query_id for query in queries if query.state == state]
        for state in (*{query.state for query in queries}, MISSING, UNDECIDED)
    }
    by_rule = sum(len(ids) for state, ids in by_state.items() if state not in (JUDGED, MISSING, UNDECIDED))
    return {
        **asdict(rate),
        "queries": {
            "test_ids": len(queries),
            "answered": len(queries) - len(by_state[MISSING]),
            "without_judge": by_rule,
            "missing": by_state[MISSING],
            "undecided": by_state[UNDECIDED],
        },
        **log.account(judge),
    }
