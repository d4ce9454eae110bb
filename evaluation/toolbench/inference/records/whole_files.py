"""Writes files that are either absent or whole, whatever interrupts the writer."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from evaluation.toolbench.file_lock import lock

# .<name>.<process id>.<random>.part: hidden, and no reader of *.json takes it for a result.
_PART_NAME = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.part")


def write_whole(path: Path, text: str) -> None:
    """Put `text` into `path`; until it is all on disk, `path` stays as it is. OSError if it cannot be written.

    The text goes into a temporary file in the same folder, which then takes the name. The temporary is
    locked while it is written, so that `remove_abandoned` of another process leaves it alone. A device, such as
    /dev/null or /dev/stdout, and a pipe that somebody reads are written to and stay what they are.
    """
    device = _opened_device(path)
    if device is not None:
        with device:
            device.write(text.encode("utf-8"))
        return
    descriptor, part = _open_part(path)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8"))
            stream.flush()
            os.fsync(descriptor)
            os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_abandoned(folder: Path) -> int:
    """Remove the temporaries in `folder` whose writers are dead; return how many there were."""
    abandoned = [path for path in folder.iterdir() if _PART_NAME.fullmatch(path.name)]
    return sum(_remove_if_abandoned(path) for path in abandoned)


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold other processes off `folder` that ask for this lock too. Without effect where folders cannot be locked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock(descriptor, folder / ".", wait=True)
        yield
    finally:
        os.close(descriptor)


def _opened_device(path: Path) -> BinaryIO | None:
    """Open a device, a pipe that somebody reads, or what stands for a file that this process has open; None for others.

    A pipe without a reader is one of the others: opening it would wait for one.
    """
    try:
        mode = os.stat(path).st_mode
        is_open_file = path.is_symlink() and os.readlink(path).startswith("/proc/self/fd/")
    except (OSError, ValueError):  # none is there; half a surrogate pair in its name
        return None
    if not is_open_file and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return None
    if not stat.S_ISFIFO(mode):
        return open(path, "wb")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def _open_part(path: Path) -> tuple[int, Path]:
    while True:
        part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        lock(descriptor, part, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor, part
        os.close(descriptor)  # considered abandoned, and removed, in the moment before it was locked


def _remove_if_abandoned(part: Path) -> bool:
    """Remove it if nobody locks it: a lock ends with its process, holds between containers, and is never reused."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if lock(descriptor, part, wait=False) != "held":
            return False
        part.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _sync_folder(folder: Path) -> None:
    """Make the new name in `folder` outlive a power cut."""
    with contextlib.suppress(OSError):  # not every file system can; the file's own bytes are on disk
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
