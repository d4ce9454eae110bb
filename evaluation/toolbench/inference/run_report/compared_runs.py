"""Reads the runs that are to be compared: from each folder its sets, from each set its queries and their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.records.event_history import read_history
from evaluation.toolbench.inference.records.run_record import read_run_record
from evaluation.toolbench.inference.records.statuses import SOLVED, UNSOLVED
from evaluation.toolbench.inference.run_report.answer_files import read_answers, read_failures
from evaluation.toolbench.inference.run_report.judgements import (
    Judgement,
    Judgements,
    find_judgements,
    only_judgements,
)
from evaluation.toolbench.inference.run_report.report import Query, queries_of, row_of
from evaluation.toolbench.inference.run_report.set_figures import answer_folders, is_answer_folder

_T = TypeVar("_T")

_MOST_RUNS = 12  # each pair of which is tested


@dataclass(frozen=True)
class RunSet:
    """Holds a run's queries of one set by id, and what judges said of them, if any did."""

    queries: Mapping[str, Query]
    judgements: Judgements | None = None

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Return what the table of the run's own report shows of each query."""
        return {query_id: row_of(query, 0) for query_id, query in self.queries.items()}

    def status(self, query_id: str) -> str | None:
        """Return Solved, Unsure or Unsolved; None for an answer that nobody judged. No answer is Unsolved."""
        return self._judged(query_id, lambda found: found.status or UNSOLVED, UNSOLVED)

    def is_solved(self, query_id: str) -> bool | None:
        """Say whether it is; None for an answer that nobody judged."""
        status = self.status(query_id)
        return None if status is None else status == SOLVED

    def score(self, query_id: str) -> float | None:
        """Return the mean over the judge's repeats, from 0 to 1; None for an answer that nobody judged."""
        repeats = self.judgements.num_repeats if self.judgements else 1
        return self._judged(query_id, lambda found: found.score(repeats), 0.0)

    def _judged(self, query_id: str, read: Callable[[Judgement], _T], without_answer: _T) -> _T | None:
        if self.judgements is None:
            return None
        found = self.judgements.by_query.get(query_id)
        if found is not None and found.statuses:
            return read(found)
        return None if self.queries[query_id].answer.outcome == "answered" else without_answer


@dataclass
class ComparedRun:
    """Holds one side of a comparison: a folder's answers by one method. A folder without sets has the set ""."""

    folder: Path
    method: str
    name: str = ""
    model_path: str = ""
    simulator: str = ""  # what answered calls that were not recorded, as its record says
    sets: dict[str, RunSet] = field(default_factory=dict)

    def ids(self) -> set[tuple[str, str]]:
        """Return the (set, query id) of all its queries."""
        return {(name, query_id) for name, each in self.sets.items() for query_id in each.queries}


def read_runs(folders: Sequence[Path], scores: Sequence[Path] = ()) -> list[ComparedRun]:
    """Read all runs; a folder with answers of several methods gives a run for each.

    `scores` are folders in which scoring left verdicts, one for all or one for each of `folders`; without any they
    are looked for where the scripts put them. ConfigError, also for a folder that is given twice; DataError where
    there is nothing to compare.
    """
    _check(folders, scores)
    places = [[each] for each in scores] * (len(folders) if len(scores) == 1 else 1)
    have_sets = [_set_folders(folder) for folder in folders]
    are_single = all(list(found.values()) == [folder] for found, folder in zip(have_sets, folders, strict=True))
    runs = []
    for number, (folder, found) in enumerate(zip(folders, have_sets, strict=True)):
        named = {"": folder} if are_single else found
        given = places[number] if places else None
        of_folder = _runs_of(folder, named, given, are_own=len(scores) > 1)
        if not of_folder:
            raise DataError(
                f"nothing to compare in {folder}: no answer (<id>_<method>.json) in it or in a folder of it. Name the "
                "folder that --output_answer_file named, or the one above several sets"
            )
        runs += of_folder
    if len(runs) > _MOST_RUNS:
        raise ConfigError(f"{len(runs)} runs are more than the {_MOST_RUNS} that one page compares: name fewer folders")
    _name(runs)
    _check_common(runs)
    return runs


def _check(folders: Sequence[Path], scores: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in seen:
            raise ConfigError(
                f"{folder} is given twice: a run does not differ from itself. Name the folder of another run"
            )
        seen[folder.resolve()] = folder
    if len(scores) not in (0, 1, len(folders)):
        raise ConfigError(
            f"--scores names {len(scores)} folders for {len(folders)} runs: give one for all, or one for each"
        )
    for place in scores:
        if not place.is_dir():
            raise ConfigError(f"--scores: {place} is not a folder. Name what eval_pass_rate had as --save_path")


def _set_folders(folder: Path) -> dict[str, Path]:
    """Return name -> folder of answers: `folder` itself, else those below it. DataError if it cannot be listed."""
    if is_answer_folder(folder):
        return {folder.resolve().name: folder}
    return {path.relative_to(folder).as_posix(): path for path in answer_folders(folder)}


def _runs_of(
    folder: Path, sets: Mapping[str, Path], scores: Sequence[Path] | None, *, are_own: bool
) -> list[ComparedRun]:
    runs: dict[str, ComparedRun] = {}
    for name, path in sets.items():
        record = read_run_record(path) or read_run_record(folder)
        queries = queries_of(read_answers(path), read_failures(path), read_history(path))
        methods = sorted({query.answer.method for query in queries})
        for method in methods:
            run = runs.setdefault(method, ComparedRun(folder, method))
            if record:
                run.model_path = str(record.configuration.get("model_path") or "")
                run.simulator = str(record.settings.get("simulator") or "")
            of_method = {each.answer.query_id: each for each in queries if each.answer.method == method}
            run.sets[name] = RunSet(of_method, _judgements(path, method, scores, are_own and len(methods) == 1))
    return [runs[method] for method in sorted(runs)]


def _judgements(path: Path, method: str, scores: Sequence[Path] | None, is_own: bool) -> Judgements | None:
    path = path.resolve()
    model = path.parent.name
    names = [model, f"{model}_{method}"]
    if scores is None:
        return find_judgements([path, path.parent, *_usual_places(path, names)], path.name, names)
    found = find_judgements(scores, path.name, names)
    return only_judgements(scores[0], path.name) if found is None and is_own else found


def _usual_places(path: Path, models: Sequence[str]) -> list[Path]:
    """Name where run_pass_rate.sh writes, for answers in data/answer/<model>/<set>, and evaluate.sh without data/."""
    above = path.parent.parent
    results = [each / "results" / "pass_rate" for each in (above.parent, above)]
    return [path.parent / "pass_rate", *(place / model for place in results for model in models)]


def _name(runs: Sequence[ComparedRun]) -> None:
    """Give each run the shortest name that is its own: the last parts of its path that differ, and its method."""
    paths = [run.folder.resolve().parts for run in runs]
    while len({path[-1] for path in paths}) == 1 and min(map(len, paths)) > 1 and len(set(paths)) > 1:
        paths = [path[:-1] for path in paths]
    length = 1
    while len({path[-length:] for path in paths}) < len(set(paths)):
        length += 1
    have_methods = len({run.method for run in runs}) > 1
    for run, path in zip(runs, paths, strict=True):
        run.name = "/".join(path[-length:]) + (f" · {run.method}" if have_methods else "")


def _check_common(runs: Sequence[ComparedRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if not first.ids() & run.ids():
            raise DataError(
                f"{first.folder} and {run.folder} have no query in common: the one has {_described(first)}, the other "
                f"{_described(run)}. Compare answers to the same queries"
            )


def _described(run: ComparedRun) -> str:
    ids = sorted(run.ids())
    sets = " of " + ", ".join(run.sets) if any(run.sets) else ""
    return f"{len(ids)}{sets}, such as {ids[0][1]}"
