"""Measures what a run takes of the host: processor seconds of its processes, those of its parent apart."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import psutil

from benchmarks.sampling import sampling

_INTERVAL_S = 0.5
_OF_A_REPLICA = "replicas.child"  # in the command line


@dataclass
class HostUse:
    """Holds processor seconds by process id, as they were when each was last seen."""

    seconds: dict[int, float] = field(default_factory=dict)
    parents: set[int] = field(default_factory=set)  # of replicas
    elapsed_s: float = 0.0

    @property
    def cores(self) -> float:
        """Return how many cores were busy at the same time, on average."""
        return sum(self.seconds.values()) / max(self.elapsed_s, 1e-9)

    @property
    def parent_cores(self) -> float:
        """Return the share of a core that the process took which hands out the queries."""
        return sum(self.seconds[pid] for pid in self.parents if pid in self.seconds) / max(self.elapsed_s, 1e-9)


@contextlib.contextmanager
def following(pids: Iterable[int]) -> Iterator[HostUse]:
    """Follow the processes `pids` and all that they start, until the end of the block."""
    use, roots, began = HostUse(), list(pids), time.monotonic()
    before = dict(_seconds_of(roots, use))

    def note() -> None:
        use.seconds |= {pid: seconds - before.get(pid, 0.0) for pid, seconds in _seconds_of(roots, use)}

    try:
        with sampling(note, _INTERVAL_S):
            yield use
    finally:
        note()
        use.elapsed_s = time.monotonic() - began


def _seconds_of(roots: Iterable[int], use: HostUse) -> Iterator[tuple[int, float]]:
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(root)
            for process in (top, *top.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    if any(_OF_A_REPLICA in word for word in process.cmdline()):
                        use.parents.add(process.ppid())
                    yield process.pid, times.user + times.system
