"""Runs child processes of a benchmark: each has a time to end by, answers in JSON, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class PartError(Exception):
    """Says in one line that a part cannot go on."""


class Deadline:
    """Counts the seconds left until a moment."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def require(self) -> float:
        """Return seconds left. PartError when there are none."""
        if self.left <= 0:
            raise PartError("out of time")
        return self.left


def start(*arguments: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start Python with `arguments`, in a process group of its own; what it says on stderr is seen here."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children, so that nothing of them is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def printed_by(process: subprocess.Popen[str], deadline: Deadline) -> str | None:
    """Return what it prints until it ends; None when that takes too long. Nothing of it is left."""
    try:
        return process.communicate(timeout=deadline.require())[0]
    except subprocess.TimeoutExpired:
        return None
    finally:
        end(process)


def run_json(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    deadline: Deadline,
    *,
    codes: Sequence[int] = (0,),
    whole_output: bool = False,
) -> dict[str, Any]:
    """Return what Python with `arguments` prints: its last line as JSON, or all of it."""
    process = start(*arguments, environment=environment)
    printed = printed_by(process, deadline)
    if printed is None:
        raise PartError(f"{' '.join(arguments)} was not done in time")
    if process.returncode not in codes or not printed.strip():
        raise PartError(f"{' '.join(arguments)} ended with code {process.returncode}")
    answer: dict[str, Any] = json.loads(printed if whole_output else printed.strip().splitlines()[-1])
    return answer


class Worker:
    """Talks to a serving process, whose answers a thread reads so that none is waited for in vain."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process, self._name = process, name
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        print(json.dumps(message), file=self._process.stdin, flush=True)

    def answer(self, deadline: Deadline) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=deadline.require())
        except queue.Empty as error:
            raise PartError(f"{self._name} did not answer in time") from error
        if not line:
            raise PartError(f"{self._name} ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")
