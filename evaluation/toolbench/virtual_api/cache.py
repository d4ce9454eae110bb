"""Reads a StableToolBench response cache: a folder of `<category>/<tool>/<api>.json`, each a map from key to answer.

Files are read when first asked for and kept in memory up to a bound, least recently used first out.
A file changed by somebody else is read again. Storing is safe against other threads and other
processes that store at the same time. All methods may be called from any thread.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evaluation.toolbench.file_lock import lock
from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.json_input import JsonError, parse_object, read_file
from evaluation.toolbench.virtual_api.cache_names import RecordName
from evaluation.toolbench.virtual_api.keys import KeyIndex, record_key

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    answer: Any  # as recorded, normally {"error", "response"}
    match: Literal["exact", "fuzzy"]


class _Stamp(NamedTuple):
    """Changes whenever a file's content does: an atomic replacement has a new inode, a rewrite a new time."""

    inode: int
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class _Record:
    """Holds one file as it was read. It is not changed afterwards: storing makes a new one."""

    stamp: _Stamp
    answers: dict[str, Any]

    @cached_property
    def key_index(self) -> KeyIndex:  # made when an exact key misses for the first time
        return KeyIndex(self.answers)


class ResponseCache:
    """Finds the recorded answers below `root`.

    `fuzzy` lets arguments that mean the same find their answer (`KeyIndex`); the exact key always comes
    first. `max_memory_bytes` bounds the files held in memory, counted by their size on disk.
    """

    _NUM_READ_LOCKS = 64

    def __init__(self, root: Path, *, fuzzy: bool = True, max_memory_bytes: int = 256 * 2**20) -> None:
        self.root = root.resolve()
        self._fuzzy = fuzzy
        self._max_memory_bytes = max_memory_bytes
        self._records: OrderedDict[Path, _Record] = OrderedDict()
        self._memory_bytes = 0
        self._lock = threading.Lock()
        # A crowd that waits for one large file reads it once.
        self._read_locks = [threading.Lock() for _ in range(self._NUM_READ_LOCKS)]

    def count_files(self) -> int:
        """Count the APIs that have recorded answers; walks the folder."""
        return sum(1 for _ in self.root.glob("*/*/*.json"))

    def has(self, name: RecordName) -> bool:
        """Return whether any answer of this API is recorded."""
        path = self._path(name)
        return path is not None and path.is_file()

    def in_memory(self) -> tuple[int, int]:
        """Return (files, answers) held in memory at this moment."""
        with self._lock:
            return len(self._records), sum(len(record.answers) for record in self._records.values())

    def find(self, name: RecordName, arguments: Any) -> Found | None:
        """Return the recorded answer, or None. A file that is missing or unreadable holds none."""
        path = self._path(name)
        record = self._read(path) if path else None
        if record is None:
            return None
        key = record_key(arguments)
        if key in record.answers:
            return Found(record.answers[key], "exact")
        similar = record.key_index.find(arguments) if self._fuzzy else None
        return Found(record.answers[similar], "fuzzy") if similar is not None else None

    def store(self, name: RecordName, arguments: Any, answer: Any, *, keep_first: bool = False) -> Any:
        """Record `answer`, replacing an earlier one for the same key unless that is to be kept; return what is there.

        The file is replaced as a whole, so readers see the old or the new one. OutputError when it
        cannot be written; the folder is then as before.
        """
        path = self._path(name)
        if path is None:
            raise OutputError(f"No answer of {name} is recorded: its names do not make a path below {self.root}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _exclusive(path.parent / ".lock"):
                answers = self._answers_to_extend(path)
                key = record_key(arguments)
                if keep_first and key in answers:
                    return answers[key]
                answers[key] = answer
                _write_whole(path, json.dumps(answers, indent=4))
                return answer
        except (OSError, ValueError, RecursionError) as error:
            raise OutputError(f"Cannot record an answer in {path}: {error}", path=str(path)) from error

    def _path(self, name: RecordName) -> Path | None:
        """Return where `name` is recorded, links followed; None where that is not below the folder."""
        relative = name.relative_path()
        if relative is None:
            return None
        try:
            path = (self.root / relative).resolve()
        except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
            return None
        return path if path.is_relative_to(self.root) else None

    def _read(self, path: Path) -> _Record | None:
        stamp = _stamp(path)
        if stamp is None:
            return None
        if record := self._remembered(path, stamp):
            return record
        with self._read_locks[hash(path) % self._NUM_READ_LOCKS]:
            if record := self._remembered(path, stamp):
                return record
            try:
                answers = _load(path)
            except (OSError, JsonError) as error:
                _log.warning("%s counts as empty: %s", path, error)
                answers = {}  # remembered too, so that the line above comes once per version of the file
            # The stamp is older than the content, never newer: a change in between is read again.
            record = _Record(stamp, answers)
            self._remember(path, record)
            return record

    def _remembered(self, path: Path, stamp: _Stamp) -> _Record | None:
        with self._lock:
            record = self._records.get(path)
            if record is None or record.stamp != stamp:
                return None
            self._records.move_to_end(path)
            return record

    def _remember(self, path: Path, record: _Record) -> None:
        with self._lock:
            if replaced := self._records.pop(path, None):
                self._memory_bytes -= replaced.stamp.size_bytes
            self._records[path] = record
            self._memory_bytes += record.stamp.size_bytes
            while self._memory_bytes > self._max_memory_bytes:
                _, oldest = self._records.popitem(last=False)
                self._memory_bytes -= oldest.stamp.size_bytes

    def _answers_to_extend(self, path: Path) -> dict[str, Any]:
        """Return what `path` holds now, read from disk: another process may have stored there just before us."""
        try:
            return _load(path)
        except FileNotFoundError:
            return {}
        except JsonError:
            broken = path.with_name(f"{path.name}.broken")
            _log.warning("%s is not a JSON object of answers; moved to %s", path, broken.name)
            os.replace(path, broken)  # a person may still rescue what is in it
            return {}


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # Anything else, a pipe above all, could block the reader for ever.
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _load(path: Path) -> dict[str, Any]:
    return parse_object(read_file(path))


@contextmanager
def _exclusive(lock_path: Path) -> Iterator[None]:
    """Hold the lock of one tool's folder, against other threads and other processes alike.

    The lock file stays: removing it would let two holders lock two different files of that name.
    """
    with lock_path.open("w") as lock_file:  # every opening is a holder of its own, also within a process
        lock(lock_file.fileno(), lock_path, wait=True)
        yield  # closing the file releases the lock, also when we are killed


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
