"""Shows a run on stderr: as one live display on a terminal, as plain lines now and then elsewhere."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.live import Live
from rich.segment import Segment

from evaluation.toolbench.inference.run_display.figures import Figures, Trend
from evaluation.toolbench.inference.run_display.frames import frame, heartbeat
from evaluation.toolbench.inference.run_display.status import RunStatus

HEARTBEAT_S = 30.0
# Set in the kernels of Jupyter, Colab, Kaggle and Databricks.
_NOTEBOOKS = ("JPY_PARENT_PID", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "DATABRICKS_RUNTIME_VERSION")


def allows_live_display(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether `stream` is a terminal on which lines may be drawn again.

    A notebook's cells give programs a terminal, and keep every frame that is drawn on it.
    """
    if not stream.isatty() or environment.get("TERM") in (None, "", "dumb", "unknown"):
        return False
    is_notebook = any(environment.get(name) for name in _NOTEBOOKS)
    return not is_notebook and environment.get("CI", "").lower() in ("", "0", "false")


class RunDisplay:
    """Shows the run while entered. `print_line` may be called from any thread, `show` from one.

    While a live display is on, what Python code prints to the terminal, warns of or logs is put above it.
    The cursor is never hidden, so a crash cannot leave it hidden. A terminal that is closed, or a pipe
    that nobody reads any more, ends the display and not the run.
    """

    def __init__(self, *, live: bool = True) -> None:
        """Make a display; `live` False asks for plain lines on a terminal too."""
        self._live: Live | None = None
        self._frame = _Frame()
        self._trend = Trend()
        self._figures: Figures | None = None
        self._last_line_s = 0.0  # of the run's time
        self._last_phase = "loading"
        self._has_news = False  # since the last line
        self._is_watched = True  # until a line could not be written
        self._diverted: list[tuple[logging.StreamHandler[Any], TextIO]] = []
        if live and allows_live_display(sys.stderr):
            self._live = _Live(
                self._frame,
                console=_CursorStays(stderr=True, highlight=False),
                auto_refresh=False,  # nothing changes between one status and the next
                redirect_stdout=sys.stdout.isatty(),  # results that go to a file or a pipe stay there
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
        self._figures = self._frame.figures = figures = self._trend.take(status)
        self._has_news = True
        if self._live:
            self._write(self._live.refresh)
        elif status.elapsed_s - self._last_line_s >= HEARTBEAT_S or self._begins_or_ends_compiling(status):
            self._print_heartbeat(figures)

    @property
    def is_live(self) -> bool:
        """Return whether lines are drawn again, over what others write to the terminal."""
        return self._live is not None

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

    def _begins_or_ends_compiling(self, status: RunStatus) -> bool:
        return status.phase != self._last_phase and "compiling" in (status.phase, self._last_phase)

    def _print_heartbeat(self, figures: Figures) -> None:
        self._last_line_s = figures.status.elapsed_s
        self._last_phase = figures.status.phase
        self._has_news = False
        self.print_line(heartbeat(figures))

    def _divert_logs(self, terminal: TextIO) -> None:
        """Give handlers of the terminal the stream that prints above: they keep the one they were made with."""
        loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
        for handler in {handler for each in loggers for handler in each.handlers}:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (terminal, sys.__stderr__):
                self._diverted.append((handler, handler.stream))
                handler.setStream(sys.stderr)


@dataclass
class _Frame:
    """Fits the frame to the terminal at the moment of drawing, and remembers how long its lines then were."""

    figures: Figures | None = None
    lengths: list[int] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.figures is None:
            return
        lines = console.render_lines(frame(self.figures, options.max_width, options.max_height), options, pad=False)
        self.lengths = [sum(segment.cell_length for segment in line) for line in lines]
        for number, line in enumerate(lines):
            yield from line
            if number < len(lines) - 1:
                yield Segment.line()


class _Live(Live):
    """Goes back over the lines of its last frame as a terminal that was resized since shows them."""

    def __init__(self, shown: _Frame, **options: Any) -> None:
        super().__init__(shown, **options)
        self._shown = shown
        self._drawn_at = 0  # columns

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        width = self.console.width
        if self._shown.lengths and width != self._drawn_at:
            rows = sum(max(1, math.ceil(length / width)) for length in self._shown.lengths)
            # What rich goes up by: lines that are now too long take up several rows each.
            self._live_render._shape = (width, min(rows, self.console.height))
        self._drawn_at = width
        return super().process_renderables(renderables)


class _CursorStays(Console):
    def show_cursor(self, show: bool = True) -> bool:
        return False
