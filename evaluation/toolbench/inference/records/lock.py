"""One run at a time in a folder of answers.

The lock is the operating system's on an open file, so it ends with its process however that ends; what is
written in the file is only for people.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.answers import output_errors

LOCK_FILE = ".run.lock"


class RunLock:
    """Held from `acquire` to `release`, to the end of the process, or until the object is gone."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._folder = folder
        self._file: Any = None

    def acquire(self) -> None:
        """OutputError if another run has the folder. A file that a killed run left behind is taken over."""
        with output_errors(self._path):
            while self._file is None:
                self._file = self._try()

    def release(self) -> None:
        """Without effect where it is not held."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # the folder may be read-only by now; the lock itself goes with the file
                self._path.unlink()  # before it is unlocked: whoever waits for it will look again
            self._file.close()
            self._file = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()

    def _try(self) -> Any:
        """The locked file; None if it was removed by its last holder just before it was locked."""
        file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - it stays open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            raise OutputError(
                f"{self._folder} is in use by another run{holder}: wait for it, stop it, or pass another "
                "--output_answer_file",
                path=str(self._folder),
            ) from None
        except OSError:  # a file system without locks
            return file
        if not os.fstat(file.fileno()).st_nlink:
            file.close()
            return None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}))
        file.flush()
        return file


def _holder(file: Any) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        file.seek(0)
        record = json.load(file)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started"]))
        return f" (process {int(record['pid'])} on {record['host']}, since {started})"
    return ""
