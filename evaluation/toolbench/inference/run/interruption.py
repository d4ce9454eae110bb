"""Ends a run early: from the keyboard, by a signal, or because the process that wanted it is gone."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, suppress
from types import FrameType, TracebackType

from evaluation.toolbench.inference.command_line import signals_taken_by

STOPPING = "Finishing the steps in progress. Press Ctrl-C again to stop immediately."
_SHOW_CURSOR = b"\x1b[?25h"  # which a progress bar hides


class Interruption:
    """Asks, at a first signal while entered, to stop after the running steps; a second one ends the process.

    `requested` is set by either, and by `request`. Signals that were ignored before stay ignored. Outside the main
    thread, which alone can take signals, nothing changes.
    """

    def __init__(self, *, says_so: bool = True) -> None:
        """Make one; with `says_so` False others say that the run is stopping: a display that draws over lines."""
        self.requested = threading.Event()
        self._says_so = says_so
        self.signal_number: int | None = None
        self._signals = ExitStack()

    @property
    def exit_code(self) -> int | None:
        """Return 128 + signal, as shells count; None while no signal has come."""
        return None if self.signal_number is None else 128 + self.signal_number

    def __enter__(self) -> Interruption:
        self._signals.enter_context(signals_taken_by(self._on_signal))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._signals.close()

    def request(self, signal_number: int = signal.SIGTERM) -> None:
        """Ask to stop, as if that signal had come. May be called from any thread."""
        self.signal_number = self.signal_number or signal_number
        self.requested.set()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested.is_set():
            if number == signal.SIGHUP:  # a terminal that is closed may say so twice
                return
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)
            # Threads may be in the middle of a long generation; answers are whole at any moment.
            os._exit(128 + number)
        self.request(number)
        if not self._says_so:
            return
        with suppress(OSError):  # of a terminal that was closed, which is what SIGHUP says
            # Straight to the descriptor: the signal may have come in the middle of a buffered print.
            os.write(2, f"\n{STOPPING}\n".encode())
