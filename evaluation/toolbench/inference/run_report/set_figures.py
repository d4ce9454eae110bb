"""Counts what became of the queries of a folder of answers, by method: one line of a table over several folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.event_history import EVENT_FILES, Attempt, read_history
from evaluation.toolbench.inference.records.failures import FILE_NAME as FAILURES_FILE
from evaluation.toolbench.inference.records.run_record import RunRecord, read_run_record
from evaluation.toolbench.inference.run_report.answer_files import has_answers, read_answers, read_failures
from evaluation.toolbench.inference.run_report.timeline import Span, covered_seconds
from evaluation.toolbench.inference.run_report.totals import api_statistics, generated

_DEEPEST = 2  # folders of sets in folders of models


@dataclass(frozen=True)
class SetFigures:
    """Counts the queries of one folder and method. `tokens` are generated ones, of all tries."""

    folder: Path
    method: str
    queries: int = 0
    answered: int = 0
    gave_up: int = 0
    no_answer: int = 0
    failed: int = 0
    tokens: int = 0
    api_calls: int = 0
    cache: CacheUse = field(default_factory=CacheUse)  # of those calls
    spans: tuple[Span, ...] = field(default=(), repr=False)  # of the tries, in seconds

    @property
    def seconds(self) -> float:
        """Return the time in which at least one of the queries was under way."""
        return covered_seconds(self.spans)

    @property
    def left(self) -> int:
        """Return how many have neither an answer nor a failure."""
        return self.queries - self.answered - self.gave_up - self.no_answer - self.failed


def is_answer_folder(folder: Path) -> bool:
    """Say whether a run or another program has left answers, failures or events directly in `folder`."""
    return has_answers(folder) or (folder / FAILURES_FILE).exists() or any(folder.glob(EVENT_FILES))


def answer_folders(above: Path) -> list[Path]:
    """Return the folders of answers below `above`, by name. DataError if it cannot be listed."""
    return list(_answer_folders(above, _DEEPEST))


def set_figures(folder: Path) -> list[SetFigures]:
    """Count what is in a folder of answers, a method after the other. DataError for files that cannot be read."""
    answers = read_answers(folder)
    failures = read_failures(folder)
    attempts = read_history(folder).attempts()
    known = [each.method for each in answers] + [each.method for each in failures] + [method for _, method in attempts]
    methods = sorted(set(known) - {""})
    asked = _asked(read_run_record(folder))
    found = []
    for method in methods:
        kinds = {each.query_id: each.outcome for each in answers if each.method == method}
        ended = {query_id for query_id, kind in kinds.items() if kind != "unreadable"}
        failed = {each.query_id for each in failures if each.method == method} - ended
        of_method = {query_id: tries for (query_id, each), tries in attempts.items() if each == method}
        figures = _with_work(SetFigures(folder, method), [each for tries in of_method.values() for each in tries])
        values = list(kinds.values())
        found.append(
            replace(
                figures,
                queries=max(asked.get(method, 0), len(kinds.keys() | failed | of_method.keys())),
                answered=values.count("answered"),
                gave_up=values.count("gave_up"),
                no_answer=values.count("no_answer"),
                failed=len(failed),
                tokens=figures.tokens or sum(each.total_tokens or 0 for each in answers if each.method == method),
            )
        )
    return found


def total_of(rows: Iterable[SetFigures], folder: Path) -> SetFigures:
    """Add rows up."""
    total = SetFigures(folder, "")
    names = vars(total).keys() - {"folder", "method"}
    for row in rows:
        total = replace(total, **{name: getattr(total, name) + getattr(row, name) for name in names})
    return total


def _with_work(figures: SetFigures, attempts: Sequence[Attempt]) -> SetFigures:
    calls = [call for attempt in attempts for call in attempt.calls]
    return replace(
        figures,
        tokens=sum(map(generated, attempts)),
        api_calls=api_statistics(calls).calls,
        cache=CacheUse.total(CacheUse.of(call.cache) for call in calls),
        spans=tuple((attempt.start, attempt.last_sign_of_life()) for attempt in attempts),
    )


def _asked(run: RunRecord | None) -> dict[str, int]:
    """Return how many queries the last run was asked for, by method."""
    if run is None:
        return {}
    given = run.configuration.get("method")
    methods = given if isinstance(given, list) else [given]
    return {str(method): run.counts.queries // len(methods) for method in methods}


def _answer_folders(above: Path, depth: int) -> Iterator[Path]:
    try:
        inside = sorted(path for path in above.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder {above}: {error.strerror}") from error
    for folder in inside:
        if is_answer_folder(folder):
            yield folder
        elif depth > 1:
            yield from _answer_folders(folder, depth - 1)
