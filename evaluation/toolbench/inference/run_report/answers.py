"""Reads the answer files of a folder, whoever wrote them and whatever state they are in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.finish import parse_finish
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.run_report.event_log import FINAL_ANSWER, GAVE_UP
from evaluation.toolbench.inference.run_report.trajectory import Step, Trajectory, chain_trajectory, tree_trajectory

FAILURES_FILE = "failures.json"

# The method begins with its algorithm's name; an id may have underscores, and so may a method.
_ANSWER_FILE = re.compile(r"(?P<id>.+?)_(?P<method>(?:CoT|DFS).*)\.json")


@dataclass
class Answer:
    """One answer file. `outcome` is answered, gave_up, no_answer or unreadable (then `error` says why)."""

    query_id: str
    method: str
    outcome: str
    query: str = ""
    final_answer: str = ""
    total_tokens: int | None = None  # as the answer file counts them
    trajectories: list[Trajectory] = field(default_factory=list)  # one per CoT try, one for DFS
    error: str = ""

    def steps(self) -> Iterator[Step]:
        for trajectory in self.trajectories:
            yield from trajectory.walk()


@dataclass(frozen=True)
class Failure:
    """A query that has no answer, and why."""

    query_id: str
    type: str
    message: str
    traceback: str = ""


def read_answers(folder: Path) -> list[Answer]:
    """All answers in `folder`, by file name. DataError if that is no folder that can be listed."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read the answer folder {folder}: {error.strerror}") from error
    matches = [match for name in names if (match := _ANSWER_FILE.fullmatch(name)) and not name.startswith(".")]
    return [_read_answer(folder / match.string, match["id"], match["method"]) for match in matches]


def read_failures(folder: Path) -> dict[str, Failure]:
    """{query id: failure} of the folder's list of failures, `{}` without one."""
    path = folder / FAILURES_FILE
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the list of failed queries {path}: {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"the list of failed queries {path} is no JSON list of objects")
    failures = (_failure(record) for record in records)
    return {failure.query_id: failure for failure in failures}


def _read_answer(path: Path, query_id: str, method: str) -> Answer:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return _answer(record, query_id, method)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{path.name} is not a whole answer file ({type(error).__name__}: {error})"
        return Answer(query_id, method, "unreadable", error=reason)


def _answer(record: Mapping[str, Any], query_id: str, method: str) -> Answer:
    generation = record["answer_generation"]
    if "tree" in record:
        trajectories = [tree_trajectory(record["tree"]["tree"])]
    else:
        trajectories = [chain_trajectory(attempt["chain"]) for attempt in record["trys"]]
    tokens = generation.get("total_tokens")
    answer = Answer(
        query_id,
        method,
        outcome="",
        query=str(generation.get("query") or ""),
        final_answer=_final_answer(generation.get("final_answer")),
        total_tokens=tokens if isinstance(tokens, int) else None,
        trajectories=trajectories,
    )
    codes = {step.code for step in answer.steps()}
    if record["win"] or FINAL_ANSWER in codes:
        answer.outcome = "answered"
    else:
        answer.outcome = "gave_up" if GAVE_UP in codes else "no_answer"
    return answer


def _final_answer(arguments: Any) -> str:
    """The text in the arguments of Finish; the arguments themselves where there is none in them."""
    if not isinstance(arguments, str) or not arguments:
        return ""
    answer = parse_finish(arguments).final_answer
    if isinstance(answer, str):
        return answer
    return arguments if not isinstance(answer, dict | list | int | float) else json.dumps(answer, ensure_ascii=False)


def _failure(record: Mapping[str, Any]) -> Failure:
    def first(*keys: str) -> str:
        return next((str(record[key]) for key in keys if record.get(key) is not None), "")

    return Failure(
        query_id=first("query_id", "id"),
        type=first("type", "error_type", "error"),
        message=first("message"),
        traceback=first("traceback"),
    )
