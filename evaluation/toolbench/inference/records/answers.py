"""Keeps the folder of answers: `<query id>_<method>.json` for every query that is done.

A file that is there and complete is done; anything else is still to do. Answers are written whole.
"""

from __future__ import annotations

import errno
import glob
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.finish import GAVE_UP, GIVE_ANSWER
from evaluation.toolbench.inference.records.whole_files import remove_abandoned, write_whole
from evaluation.toolbench.json_input import JsonError, read_json

logger = logging.getLogger(__name__)

_RESULT_KEYS = ("valid_data", "final_answer", "query")  # what conversion and evaluation read


OutcomeKind = Literal["answered", "gave_up", "no_answer"]


@dataclass(frozen=True)
class Outcome:
    """Says what an answer file has of its query: a final answer, the model's own word that it gave up, or
    neither, because steps or room ran out."""

    kind: OutcomeKind
    num_steps: int  # calls of the model
    num_tokens: int  # generated ones, as the backbone counts them
    text: str = field(default="", compare=False)  # of the query


class AnswerFolder:
    """Keeps the answers of one method in `folder`. Files of other methods, and anything else there, are left alone."""

    def __init__(self, folder: str | Path, method: str) -> None:
        self.folder = Path(folder)
        self.method = method

    def prepare(self) -> None:
        """Make the folder and see that it can be written; what killed runs left half-written goes. OutputError."""
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.folder)
            probe = self.folder / ".writable"
            write_whole(probe, "")
            probe.unlink(missing_ok=True)

    def path_of(self, query_id: str | int) -> Path:
        return self.folder / f"{query_id}_{self.method}.json"

    def query_ids(self) -> set[str]:
        """Return the ids that have a file of an answer, complete or not."""
        ending = f"_{self.method}.json"
        return {path.name.removesuffix(ending) for path in self.folder.glob(f"*{glob.escape(ending)}")}

    def outcome(self, query_id: str | int) -> Outcome | None:
        """Read what came out of this query; None when it has no complete answer."""
        path = self.path_of(query_id)
        try:
            record = read_json(path, max_depth=None)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}") from error
        except JsonError:
            logger.warning("%s is not complete JSON: the query is run again", path)
            return None
        outcome = outcome_of(record)
        if outcome is None:
            logger.warning("%s lacks keys of an answer: the query is run again", path)
        return outcome

    def write(self, query_id: str | int, record: Mapping[str, Any]) -> None:
        """Write an answer whole. OutputError if the disk does not take it; what was there before stays."""
        text = json.dumps(record, indent=2)
        with output_errors(self.path_of(query_id)):
            write_whole(self.path_of(query_id), text)

    def remove(self, query_ids: Iterable[str | int]) -> int:
        """Remove the answers to these queries, and no other file; return how many there were."""
        num_removed = 0
        for path in map(self.path_of, query_ids):
            with output_errors(path):
                try:
                    path.unlink()
                except FileNotFoundError:
                    continue
                num_removed += 1
        return num_removed


def outcome_of(record: Any) -> Outcome | None:
    """Read what an answer's record says; None for a record that lacks what its readers need."""
    result = record.get("answer_generation") if isinstance(record, dict) else None
    if not isinstance(result, dict) or any(key not in result for key in _RESULT_KEYS):
        return None
    if "trys" not in record and "tree" not in record:
        return None
    is_answered = bool(result["valid_data"]) and GIVE_ANSWER in str(result["final_answer"])
    return Outcome(
        "answered" if is_answered else "gave_up" if GAVE_UP in set(_codes(record)) else "no_answer",
        num_steps=_count(result.get("query_count")),
        num_tokens=_count(result.get("total_tokens")),
        text=str(result["query"]),
    )


def _codes(record: Mapping[str, Any]) -> Iterator[int]:
    """Yield the status codes of all nodes, of an answer's tries or of its tree."""
    tries = record.get("trys")
    waiting = [node for each in tries for node in _list(each, "chain")] if isinstance(tries, list) else []
    tree = record.get("tree")
    waiting += [tree.get("tree")] if isinstance(tree, dict) else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(code := node.get("observation_code"), int):
                yield code
            waiting += _list(node, "children")


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


@contextmanager
def output_errors(path: Path, flag: str = "--output_answer_file") -> Iterator[None]:
    """Turn the operating system's errors about `path` into OutputError; `flag` is the one that named the place."""
    try:
        yield
    except OSError as error:
        is_limit = error.errno in (errno.EMFILE, errno.ENFILE)
        remedy = "raise the limit of open files (ulimit -n)" if is_limit else f"make room or pass another {flag}"
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. What is written so far is kept; "
            f"{remedy}, then start again",
            path=str(path),
            errno=error.errno,
        ) from error
