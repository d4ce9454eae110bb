"""Counts what a run comes to while it runs, and prints it as a table at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.toolbench.inference.records.answers import Outcome
from evaluation.toolbench.inference.records.cache_use import (
    CacheUse,
    errors_in_words,
    misses_in_words,
    simulated_in_words,
)
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.run.failure_causes import FailureCauses

_TABLE_WIDTH = 100  # columns at least: names of sets and methods are long
_ROW_WIDTH = 78  # of a single row with its rates; on a narrower terminal it is told in words
_COUNTS = ("queries", "answered", "gave up", "no answer", "failed", "steps")


@dataclass
class Tally:
    """Counts queries by what came of them; `num_steps` and `num_tokens` are over those with an answer file."""

    answered: int = 0
    gave_up: int = 0  # an answer file with the model's own word that it gave up
    no_answer: int = 0  # an answer file without either: out of steps, or of room
    failed: int = 0  # no answer file, but an entry in failures.json
    num_steps: int = 0
    num_tokens: int = 0

    @property
    def total(self) -> int:
        return self.ended + self.failed

    @property
    def ended(self) -> int:
        """Return queries that came to their end: those with an answer file."""
        return self.answered + self.gave_up + self.no_answer

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def add(self, outcome: Outcome | None) -> None:
        """Count one query; None is one that failed."""
        if outcome is None:
            self.failed += 1
            return
        self.answered += outcome.kind == "answered"
        self.gave_up += outcome.kind == "gave_up"
        self.no_answer += outcome.kind == "no_answer"
        self.num_steps += outcome.num_steps
        self.num_tokens += outcome.num_tokens


@dataclass
class SetSummary:
    """Counts the queries of one file by one method: `earlier` was done before this run, `now` is what it adds."""

    folder: Path  # of the answers
    num_queries: int
    earlier: Tally = field(default_factory=Tally)
    now: Tally = field(default_factory=Tally)
    name: str = ""  # among the sets of a run

    @property
    def num_left(self) -> int:
        """Return how many queries were not run to their end."""
        return self.num_queries - self.earlier.total - self.now.total


@dataclass
class RunSummary:
    """Counts what came of a run over one or several sets of queries."""

    sets: Sequence[SetSummary]
    exit_code_of_signal: int | None = None
    causes: FailureCauses = field(default_factory=FailureCauses)  # of what failed now
    rates: Rates = field(default_factory=Rates)  # of this run, once it has ended
    api_calls: int = 0
    api_errors: int = 0  # of those calls, those without a reply in the cache among them
    cache: CacheUse = field(default_factory=CacheUse)  # of those calls

    @property
    def num_queries(self) -> int:
        return sum(each.num_queries for each in self.sets)

    @property
    def earlier(self) -> Tally:
        return sum((each.earlier for each in self.sets), Tally())

    @property
    def now(self) -> Tally:
        return sum((each.now for each in self.sets), Tally())

    @property
    def num_left(self) -> int:
        """Return how many queries were not run to their end."""
        return sum(each.num_left for each in self.sets)

    @property
    def exit_code(self) -> int:
        """Return 0; 1 when a query failed or is left without a replica; 128 + signal when the run was stopped."""
        return self.exit_code_of_signal or int(self.now.failed > 0 or self.num_left > 0)

    def print(self, console: Console | None = None) -> None:
        """Print the table, and where everything is, on stdout."""
        console = console or Console(highlight=False, soft_wrap=True)
        earlier, now, where = self.earlier, self.now, self.folder
        if self.num_queries and earlier.total == self.num_queries:
            what = "the query is" if self.num_queries == 1 else f"all {self.num_queries} queries are"
            console.print(f"Nothing to do: {what} answered in {where}", markup=False)
            return
        rates = "{} queries/min, {} tokens/s".format(*self._rates())
        if len(self.sets) > 1:
            console.width = max(console.width, _TABLE_WIDTH)
            console.print(self._table(), rates, sep="\n")  # the sets share the time
        elif console.width < _ROW_WIDTH:
            numbers = _counts(self.num_queries, earlier, now)
            words = ", ".join(f"{number} {name}" for number, name in zip(numbers, _COUNTS, strict=True))
            console.print(words, rates, sep="\n")
        else:
            console.print(self._table())
        if earlier.total:
            console.print(f"{earlier.total} of them were done by earlier runs.")
        simulated = simulated_in_words(self.api_calls, self.cache.simulated)
        misses = misses_in_words(self.api_calls, self.cache.misses)
        errors = errors_in_words(self.api_calls, self.api_errors - self.cache.misses)
        for line in filter(None, (simulated, misses, errors)):
            console.print(line)
        if now.failed:
            for folder in dict.fromkeys(each.folder for each in self.sets if each.now.failed):
                console.print(f"Failures: {folder / 'failures.json'} (the same command tries them again)", markup=False)
            for cause, count in self.causes.by_frequency().items():
                console.print(f"  {count} x {cause}", markup=False)
        if self.num_left:
            console.print(f"{self.num_left} queries are left: the same command goes on with them.")
        console.print(f"Answers: {where}", markup=False)
        report = where / "report.html"
        if report.is_file():
            console.print(f"Report: {report}", markup=False)

    @property
    def folder(self) -> Path:
        """Return the folder of all answers, or that of the folders of several files."""
        folders = list(dict.fromkeys(each.folder for each in self.sets))
        return folders[0] if len(folders) == 1 else folders[0].parent

    def _table(self) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        has_several = len(self.sets) > 1
        if has_several:
            table.add_column("set", no_wrap=True)
        for heading in _COUNTS:
            table.add_column(heading, justify="right", no_wrap=True)
        if not has_several:
            for heading in ("queries/min", "tokens/s"):
                table.add_column(heading, justify="right")
            table.add_row(*_counts(self.num_queries, self.earlier, self.now), *self._rates())
            return table
        for each in self.sets:
            table.add_row(Text(each.name), *_counts(each.num_queries, each.earlier, each.now))
        table.add_section()
        table.add_row("all", *_counts(self.num_queries, self.earlier, self.now))
        return table

    def _rates(self) -> tuple[str, str]:
        return _figure(self.rates.queries_per_min), _figure(self.rates.tokens_per_s)


def _counts(num_queries: int, earlier: Tally, now: Tally) -> Iterator[str]:
    both = earlier + now
    yield from map(str, (num_queries, both.answered, both.gave_up, both.no_answer, now.failed, both.num_steps))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
