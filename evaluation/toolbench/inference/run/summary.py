"""What a run came to: counted while it runs, printed as a table at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from evaluation.toolbench.inference.records.answers import Outcome
from evaluation.toolbench.inference.records.cache_use import CacheUse, misses_in_words
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.run.failure_causes import FailureCauses


@dataclass
class Tally:
    """Queries counted by what came of them; `num_steps` and `num_tokens` over those with an answer file."""

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
        """Queries that came to their end: those with an answer file."""
        return self.answered + self.gave_up + self.no_answer

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
class RunSummary:
    """`earlier` counts what was done before this run, `now` what it adds, out of `num_queries`."""

    folder: Path
    num_queries: int
    earlier: Tally = field(default_factory=Tally)
    now: Tally = field(default_factory=Tally)
    exit_code_of_signal: int | None = None
    causes: FailureCauses = field(default_factory=FailureCauses)  # of what failed now
    rates: Rates = field(default_factory=Rates)  # of this run, once it has ended
    api_calls: int = 0
    cache: CacheUse = field(default_factory=CacheUse)  # of those calls

    @property
    def num_left(self) -> int:
        """Return how many queries were not run to their end."""
        return self.num_queries - self.earlier.total - self.now.total

    @property
    def exit_code(self) -> int:
        """Return 0; 1 when a query failed or is left without a replica; 128 + signal when the run was stopped."""
        return self.exit_code_of_signal or int(self.now.failed > 0 or self.num_left > 0)

    def print(self, console: Console | None = None) -> None:
        """Print the table, and where everything is, on stdout."""
        console = console or Console(highlight=False, soft_wrap=True)
        if self.num_queries and self.earlier.total == self.num_queries:
            console.print(f"Nothing to do: all {self.num_queries} queries are answered in {self.folder}", markup=False)
            return
        console.print(self._table())
        if self.earlier.total:
            console.print(f"{self.earlier.total} of them were done by earlier runs.")
        misses = misses_in_words(self.api_calls, self.cache.misses)
        if misses:
            console.print(misses)
        if self.now.failed:
            failures = self.folder / "failures.json"
            console.print(f"Failures: {failures} (the same command tries them again)", markup=False)
            for cause, count in self.causes.by_frequency().items():
                console.print(f"  {count} x {cause}", markup=False)
        if self.num_left:
            console.print(f"{self.num_left} queries are left: the same command goes on with them.")
        console.print(f"Answers: {self.folder}", markup=False)
        report = self.folder / "report.html"
        if report.is_file():
            console.print(f"Report: {report}", markup=False)

    def _table(self) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # 80 columns are enough
        headings = ("queries", "answered", "gave up", "no answer", "failed", "steps", "queries/min", "tokens/s")
        for heading in headings:
            table.add_column(heading, justify="right")
        table.add_row(
            str(self.num_queries),
            str(self.earlier.answered + self.now.answered),
            str(self.earlier.gave_up + self.now.gave_up),
            str(self.earlier.no_answer + self.now.no_answer),
            str(self.now.failed),
            str(self.earlier.num_steps + self.now.num_steps),
            _figure(self.rates.queries_per_min),
            _figure(self.rates.tokens_per_s),
        )
        return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
