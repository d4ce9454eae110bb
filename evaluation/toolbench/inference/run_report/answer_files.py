"""Reads the answer files of a folder, whoever wrote them and whatever state they are in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.failures import FILE_NAME as FAILURES_FILE
from evaluation.toolbench.inference.records.finish import ABSENT, FINAL_ANSWER, GAVE_UP, GIVE_UP, parse_finish
from evaluation.toolbench.inference.run_report.trajectory import Step, Trajectory, chain_trajectory, tree_trajectory
from evaluation.toolbench.json_input import read_json

# The method begins with its algorithm's name; an id may have underscores, and so may a method.
_ANSWER_FILE = re.compile(r"(?P<id>.+?)_(?P<method>(?:CoT|DFS).*)\.json")


@dataclass
class Answer:
    """Holds one answer file. `outcome` is answered, gave_up, no_answer or unreadable (then `error` says why)."""

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
    """Names a query that has no answer, and says why."""

    query_id: str
    method: str
    type: str
    message: str
    traceback: str = ""


def read_answers(folder: Path) -> list[Answer]:
    """Read all answers in `folder`, by file name. DataError if it cannot be listed."""
    return [_read_answer(folder / match.string, match["id"], match["method"]) for match in _matches(folder)]


def has_answers(folder: Path) -> bool:
    """Say whether an answer file lies in `folder`. DataError if it cannot be listed."""
    return bool(_matches(folder))


def read_failures(folder: Path) -> list[Failure]:
    """Read the list of failed queries; empty if the file is missing, DataError if it is not a list of failures."""
    path = folder / FAILURES_FILE
    try:
        records = read_json(path)
        return [
            Failure(*(str(record[key]) for key in ("id", "method", "error", "message", "traceback")))
            for record in records
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is not a list of failed queries ({reason}): move it away") from error


def _matches(folder: Path) -> list[re.Match[str]]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read the answer folder {folder}: {error.strerror}") from error
    return [match for name in names if (match := _ANSWER_FILE.fullmatch(name)) and not name.startswith(".")]


def _read_answer(path: Path, query_id: str, method: str) -> Answer:
    try:
        record = read_json(path, max_depth=None)
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
    """Read the text in the arguments of Finish: "" for a give-up, the arguments themselves without any other text."""
    if not isinstance(arguments, str) or not arguments:
        return ""
    call = parse_finish(arguments)
    if call.return_type == GIVE_UP:
        return ""
    if call.final_answer is ABSENT:
        return arguments
    return call.final_answer if isinstance(call.final_answer, str) else json.dumps(call.final_answer)
