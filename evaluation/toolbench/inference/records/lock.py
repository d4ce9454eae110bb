"""Lets one run at a time into a folder of answers.

The lock is the operating system's on an open file, so it ends with its process however that ends. What is
written in the file is for people, and for file systems without locks: there, a run that it names and that is
still alive on this machine counts as the holder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil  # type: ignore[import-untyped]

from evaluation.toolbench.file_lock import lock
from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.answers import output_errors
from evaluation.toolbench.json_input import check_regular, parse_object

logger = logging.getLogger(__name__)

LOCK_FILE = ".run.lock"

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe is not waited for, and then refused
_LONGEST_RECORD = 10_000  # characters


class RunLock:
    """Holds a folder from `acquire` to `release`, to the end of the process, or until the object is gone.

    `flag` is the one that would name another place. `name` is for folders that several runs may share. A `shard`
    (such as "2of4") keeps off a run over all queries and a second one of that shard, and not the other shards.
    """

    def __init__(
        self, folder: Path, name: str = LOCK_FILE, flag: str = "--output_answer_file", *, shard: str = ""
    ) -> None:
        self._path = folder / name
        self._place = folder if name == LOCK_FILE else self._path
        self._flag = flag
        self._file: Any = None
        self._own = RunLock(folder, f".run-{shard}.lock", flag) if shard else None  # beside the one that all share

    def acquire(self) -> None:
        """Take the folder; OutputError if another run has it. A file that a killed run left behind is taken over."""
        with output_errors(self._path, self._flag):
            while self._file is None:
                self._file = self._try()
        if self._own is not None:
            try:
                self._own.acquire()
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Give the folder back; without effect where it is not held."""
        if self._own is not None:
            self._own.release()
        if self._file is not None:
            with contextlib.suppress(OSError):  # the folder may be read-only by now; the lock itself goes with the file
                if self._own is None:  # other shards may hold it still
                    self._path.unlink()  # before it is unlocked: whoever waits for it will look again
            self._file.close()
            self._file = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()

    def _try(self) -> Any:
        """Return the locked file; None if it was removed by its last holder just before it was locked."""
        descriptor = os.open(self._path, _FLAGS, 0o666)
        try:
            check_regular(descriptor, self._path)
        except OSError:
            os.close(descriptor)
            raise
        file = os.fdopen(descriptor, "r+", encoding="utf-8")
        outcome = lock(file.fileno(), self._path, wait=False, shared=self._own is not None)
        holder = _holder(file)
        if outcome == "busy" or (outcome == "unsupported" and holder is not None and holder.is_alive_here()):
            file.close()
            raise OutputError(
                f"{self._place} is in use by another run{f' ({holder})' if holder else ''}: wait for it, stop it, or "
                f"pass another {self._flag}"
                + (f"; or remove {self._path} if that process is not a run" if outcome == "unsupported" else ""),
                path=str(self._place),
            )
        if outcome == "unsupported" and holder is not None and holder.host != socket.gethostname():
            logger.warning("%s names a run that may still use this folder: %s", self._path, holder)
        if not os.fstat(file.fileno()).st_nlink:
            file.close()
            return None
        file.seek(0)
        file.truncate()
        if self._own is not None:  # one of several, none of which is the holder
            return file
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}))
        file.flush()
        return file


class RunLocks:
    """Locks several folders: all are held, or none."""

    def __init__(self, folders: Iterable[Path], *, shard: str = "") -> None:
        self._locks = [RunLock(folder, shard=shard) for folder in dict.fromkeys(folders)]

    def acquire(self) -> None:
        """Take the folders. OutputError if another run has one of them."""
        try:
            for each in self._locks:
                each.acquire()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        for each in self._locks:
            each.release()

    def __enter__(self) -> RunLocks:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()


@dataclass(frozen=True)
class _Holder:
    """Names the run that wrote the file last."""

    pid: int
    host: str
    started: float

    def __str__(self) -> str:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"process {self.pid} on {self.host}, since {started}"

    def is_alive_here(self) -> bool:
        """Return whether it runs on this machine. Its number may have passed to another process."""
        return self.host == socket.gethostname() and self.pid != os.getpid() and psutil.pid_exists(self.pid)


def _holder(file: Any) -> _Holder | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
        file.seek(0)
        record = parse_object(file.read(_LONGEST_RECORD))
        time.localtime(record["started"])  # a time that can be shown
        return _Holder(int(record["pid"]), str(record["host"]), float(record["started"]))
    return None
