"""Appends JSON records to a file, one a line, so that a killed process leaves at most its last line torn."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.toolbench.json_input import JsonError, check_regular, parse_object


class JsonLines:
    """Appends to an open file, by one thread at a time. Every method may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        check_regular(self._file, path)
        self._line_is_torn = not _ends_with_newline(self._file)  # of a process that was killed

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line by one system call, where the disk has room for it."""
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":"), default=str).encode() + b"\n"
        if self._line_is_torn:
            line = b"\n" + line
        self._line_is_torn = True  # until the whole line is there
        while line:
            line = line[os.write(self._file, line) :]
        self._line_is_torn = False

    def fileno(self) -> int:
        return self._file

    def close(self) -> None:
        os.close(self._file)


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of such a file; lines that are torn, or hold something else than an object, are passed over."""
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(JsonError):
                yield parse_object(line)


def _ends_with_newline(file: int) -> bool:
    size = os.fstat(file).st_size
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"
