"""Holds what the judging commands share around their work: signals, and ends before the work is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from evaluation.toolbench.inference.command_line import run_program
from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.run.interruption import Interruption

INCOMPLETE = 1


class StoppedEarly(ToolGenError):
    """Says that asking ended before all was asked; what was answered is kept."""

    exit_code = INCOMPLETE

    def __init__(self, why: str, num_verdicts: int) -> None:
        super().__init__(f"{why}. {num_verdicts} verdicts are kept: the same command goes on from there")


def run_command(work: Callable[[threading.Event], Coroutine[Any, Any, int]]) -> int:
    """Run `work` to its exit code. It is given an event that is set when the user wants it to stop."""
    with Interruption() as interruption:
        code = run_program(lambda: asyncio.run(work(interruption.requested)))
    return code if interruption.exit_code is None else interruption.exit_code
