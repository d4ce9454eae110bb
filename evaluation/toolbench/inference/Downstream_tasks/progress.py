"""How far a run is: a bar on a terminal, a line now and then elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evaluation.toolbench.inference.Downstream_tasks.summary import Tally

_LINE_EVERY_S = 10.0


class RunProgress:
    """Shows `done` of `total` queries while entered."""

    def __init__(self, total: int, *, bar: bool) -> None:
        self._total = total
        self._started = time.monotonic()
        self._last_line = self._started
        self._bar = _new_bar() if bar and sys.stderr.isatty() else None
        self._task = self._bar.add_task("", total=total) if self._bar else None

    def __enter__(self) -> RunProgress:
        if self._bar:
            self._bar.start()
        else:
            self._say(f"{self._total} queries to run")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: Tally) -> None:
        """Bring the display up to date."""
        counts = f"{done.answered} answered, {done.gave_up} gave up, {done.failed} failed"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done.total, description=counts)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_S or done.total == self._total:
            self._last_line = now
            self._say(f"{done.total} of {self._total} queries after {now - self._started:.0f} s: {counts}")

    @staticmethod
    def _say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def _new_bar() -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
