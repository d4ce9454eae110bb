"""Knows the sets of a run: which item is which set's query, and how far all of them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.run.progress import RunProgress


@dataclass(frozen=True)
class RunSet:
    """Holds queries of one file that one method is to answer."""

    query_file: str
    progress: RunProgress
    query_ids: Mapping[str, str]  # item id -> query id of those to run now, in their order

    @property
    def folder(self) -> Path:
        return self.progress.answers.folder

    @property
    def method(self) -> str:
        return self.progress.answers.method


class RunSets:
    """Passes on what becomes of an item to the set that it is of."""

    def __init__(self, sets: Sequence[RunSet]) -> None:
        self.sets = sets
        self.failures_in_a_row = 0
        self._set_of = {item_id: each for each in sets for item_id in each.query_ids}

    @property
    def item_ids(self) -> list[str]:
        """Return the items of all sets, one set after the other."""
        return list(self._set_of)

    def by_folder(self) -> dict[Path, list[RunSet]]:
        """Return the sets of each folder: several where there are several methods."""
        folders: dict[Path, list[RunSet]] = {}
        for each in self.sets:
            folders.setdefault(each.folder, []).append(each)
        return folders

    def is_answered(self, item_id: str) -> bool:
        progress, query_id = self._find(item_id)
        return progress.is_answered(query_id)

    def note_answer(self, item_id: str) -> None:
        """Count an item whose answer is on disk."""
        self.failures_in_a_row = 0
        progress, query_id = self._find(item_id)
        progress.note_answer(query_id)

    def note_failure(self, item_id: str, problem: Problem) -> None:
        """Count an item that failed, and keep why in its folder."""
        self.failures_in_a_row += 1
        progress, query_id = self._find(item_id)
        progress.note_failure(query_id, problem)

    def forget(self) -> None:
        """Remove what earlier runs left of the items."""
        for each in self.sets:
            each.progress.forget(each.query_ids.values())

    def _find(self, item_id: str) -> tuple[RunProgress, str]:
        found = self._set_of[item_id]
        return found.progress, found.query_ids[item_id]
