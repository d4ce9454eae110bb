"""Keeps `failures.json`: the queries of a folder of answers that failed, and why.

A list of {"id", "method", "error", "message", "traceback"}. An entry lasts until its query succeeds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.records.answers import output_errors
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.records.whole_files import folder_lock, write_whole
from evaluation.toolbench.json_input import JsonError, read_json

logger = logging.getLogger(__name__)

FILE_NAME = "failures.json"

Entry = dict[str, Any]
_KEYS = {"id", "method", "error", "message", "traceback"}


class FailureLog:
    """Keeps the failed queries of one method. Runs that share the folder, or other methods, keep their entries."""

    def __init__(self, folder: str | Path, method: str) -> None:
        self.path = Path(folder) / FILE_NAME
        self.method = method

    def record(self, query_id: str, error: BaseException | Problem) -> None:
        """Note that this query failed, in place of what was noted of it before. OutputError."""
        problem = error if isinstance(error, Problem) else Problem.of(error)
        entry = {
            "id": query_id,
            "method": self.method,
            "error": problem.type,
            "message": problem.message,
            "traceback": problem.traceback,
        }
        self._update(lambda entries: [*self._without({query_id}, entries), entry])

    def forget(self, query_ids: Iterable[str]) -> None:
        """Drop what is noted of these queries. OutputError."""
        if self.path.exists():
            done = set(query_ids)
            self._update(lambda entries: self._without(done, entries))

    def _without(self, query_ids: set[str], entries: list[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry["method"] != self.method or entry["id"] not in query_ids]

    def _update(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Rewrite the file, whole; without entries there is none."""
        with output_errors(self.path), folder_lock(self.path.parent):
            before, is_whole = self._read()
            after = change(before)
            if is_whole and after == before:
                return
            if not is_whole:
                logger.warning("%s is not a list of failures: it is written anew", self.path)
            if after:
                write_whole(self.path, json.dumps(after, indent=2))
            else:
                self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[list[Entry], bool]:
        """Read the entries, and say whether that is all there is in the file."""
        try:
            found = read_json(self.path)
        except FileNotFoundError:
            return [], True
        except JsonError:
            return [], False
        if not isinstance(found, list):
            return [], False
        entries = [entry for entry in found if isinstance(entry, dict) and entry.keys() >= _KEYS]
        return entries, len(entries) == len(found)
