"""Shows a run on stderr: as one live display on a terminal, as plain lines now and then elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from evaluation.toolbench.inference.run_display.figures import Figures, Trend
from evaluation.toolbench.inference.run_display.frames import frame, heartbeat
from evaluation.toolbench.inference.run_display.status import RunStatus

HEARTBEAT_S = 30.0


def allows_live_display(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether `stream` is a terminal on which lines may be drawn again, and the user wants that."""
    if not stream.isatty() or environment.get("TERM") in (None, "", "dumb", "unknown"):
        return False
    return not environment.get("NO_COLOR") and environment.get("CI", "").lower() in ("", "0", "false")


class RunDisplay:
    """Shows the run while entered. `print_line` may be called from any thread, `show` from one.

    While a live display is on, what Python code prints to the terminal, warns of or logs is put above it.
    The cursor is never hidden, so a crash cannot leave it hidden. A terminal that is closed, or a pipe
    that nobody reads any more, ends the display and not the run.
    """

    def __init__(self, *, live: bool = True) -> None:
        """`live` False asks for plain lines on a terminal too."""
        self._live: Live | None = None
        self._trend = Trend()
        self._figures: Figures | None = None
        self._last_line_s = 0.0  # of the run's time
        self._has_news = False  # since the last line
        self._is_watched = True  # until a line could not be written
        self._diverted: list[tuple[logging.StreamHandler[Any], TextIO]] = []
        if live and allows_live_display(sys.stderr):
            self._live = Live(
                console=_CursorStays(stderr=True, highlight=False),
                auto_refresh=False,  # nothing changes between one status and the next
                redirect_stdout=sys.stdout.isatty(),  # results that go to a file or a pipe stay there
                get_renderable=lambda: _Frame(self._figures) if self._figures else "",
            )

    def __enter__(self) -> RunDisplay:
        if self._live:
            terminal = sys.stderr
            self._live.start()
            self._divert_logs(terminal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Leave the last frame, or print a last line with the latest figures."""
        if self._live:
            self._end_live(self._live)
        elif self._has_news and self._figures is not None:
            self._print_heartbeat(self._figures)

    def show(self, status: RunStatus) -> None:
        """Bring the display up to date. To be called every second or so, in the order of `status.elapsed_s`."""
        self._figures = figures = self._trend.take(status)
        self._has_news = True
        if self._live:
            self._write(self._live.refresh)
        elif status.elapsed_s - self._last_line_s >= HEARTBEAT_S:
            self._print_heartbeat(figures)

    def print_line(self, line: str) -> None:
        """Print a line for a person, above a live display if there is one."""
        if self._live:
            self._write(partial(self._live.console.print, line, markup=False, soft_wrap=True))
        else:
            self._write(partial(print, line, file=sys.stderr, flush=True))

    def _write(self, write: Callable[[], None]) -> None:
        if not self._is_watched:
            return
        try:
            write()
        except OSError:
            self._is_watched = False
            if self._live:
                self._end_live(self._live)

    def _end_live(self, live: Live) -> None:
        for handler, stream in self._diverted:
            handler.setStream(stream)
        self._diverted.clear()
        with suppress(OSError):
            live.stop()

    def _print_heartbeat(self, figures: Figures) -> None:
        self._last_line_s = figures.status.elapsed_s
        self._has_news = False
        self.print_line(heartbeat(figures))

    def _divert_logs(self, terminal: TextIO) -> None:
        """Handlers keep the stream they were made with: give those of the terminal the one that prints above."""
        loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
        for handler in {handler for each in loggers for handler in each.handlers}:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (terminal, sys.__stderr__):
                self._diverted.append((handler, handler.stream))
                handler.setStream(sys.stderr)


@dataclass(frozen=True)
class _Frame:
    """The frame as it fits the terminal at the moment of drawing."""

    figures: Figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield frame(self.figures, options.max_width)


class _CursorStays(Console):
    def show_cursor(self, show: bool = True) -> bool:
        return False
