"""Tells how much main memory a run may use: what is free, within the limit that a container or a job sets.

psutil tells of the whole machine. A cgroup's limit is often far below it, and whoever exceeds it is killed without
a word.
"""

from __future__ import annotations

from pathlib import Path

import psutil  # type: ignore[import-untyped]

from evaluation.toolbench.json_input import read_text

_UNLIMITED = 2**60  # version 1 writes a number near 2**63 for "no limit"


def available_bytes(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many bytes of main memory this process and its children can still take."""
    left = [int(psutil.virtual_memory().available)]
    for folder, limit_file, used_file in _controllers(cgroups, own):
        limit = _number(folder / limit_file)
        if limit is not None and limit < _UNLIMITED:
            used = (_number(folder / used_file) or 0) - _reclaimable(folder)
            left.append(max(0, limit - max(0, used)))
    return min(left)


def memory_limit(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the lowest limit that a container or a job sets for this process, in bytes; None without one."""
    limits = [_number(folder / limit_file) for folder, limit_file, _ in _controllers(cgroups, own)]
    return min((limit for limit in limits if limit is not None and limit < _UNLIMITED), default=None)


def _controllers(cgroups: Path, own: Path) -> list[tuple[Path, str, str]]:
    """Return (folder, file of the limit, file of the use) of this process's cgroup and all above it, both versions.

    Inside a container the group's own path may not be there; its files then lie at the top.
    """
    found = []
    for line in _lines(own):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names == "":
            found += [(folder, "memory.max", "memory.current") for folder in _upwards(cgroups, path)]
        elif "memory" in names.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            found += [(folder, *files) for folder in _upwards(cgroups / "memory", path)]
    return found


def _upwards(root: Path, path: str) -> list[Path]:
    folder = root / path.strip().lstrip("/")
    between = [parent for parent in folder.parents if parent.is_relative_to(root)]
    return [folder, *between] if folder != root else [root]


def _reclaimable(folder: Path) -> int:
    """Return the bytes of file cache within the group's use that go when memory is short."""
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value) if value.strip().isascii() and value.strip().isdigit() else 0
    return 0


def _number(file: Path) -> int | None:
    text = "".join(_lines(file)).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return read_text(file).splitlines()
    except (OSError, UnicodeDecodeError):
        return []
