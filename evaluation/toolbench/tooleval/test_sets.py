"""Reads what scoring starts from: the ids of a query set, and a model's converted answers to it."""

from __future__ import annotations

from pathlib import Path

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.tooleval.converted import ConvertedAnswer, read_converted
from evaluation.toolbench.tooleval.inputs import read_entries


def read_test_set(answers_folder: Path, ids_folder: Path, name: str) -> tuple[dict[str, ConvertedAnswer], list[str]]:
    """Return (answers by id, ids) of the set of this name. DataError, also for answers that are another set's."""
    answers_path, ids_path = answers_folder / f"{name}.json", ids_folder / f"{name}.json"
    ids = list(read_entries(ids_path, "test ids"))
    if not ids:
        raise DataError(f"{ids_path} names no query: there is nothing to score")
    answers = read_converted(answers_path)
    if not any(query_id in answers for query_id in ids):
        others = f"{len(answers)} others, such as {next(iter(answers))}" if answers else "none at all"
        raise DataError(
            f"{answers_path} has none of the {len(ids)} ids of {ids_path} (it has {others}): it is of another set"
        )
    return answers, ids
