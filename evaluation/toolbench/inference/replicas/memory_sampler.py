"""Writes the memory in use of each GPU to event logs, now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from evaluation.toolbench.inference.records.event_log import EventLog

logger = logging.getLogger(__name__)


class MemoryReading(Protocol):
    """Holds what is recorded of a GPU; `multi_gpu.nvml.Gpu` is one."""

    @property
    def uuid(self) -> str: ...

    @property
    def total_bytes(self) -> int: ...

    @property
    def used_bytes(self) -> int: ...


class MemorySampler:
    """Asks `read_gpus` (`multi_gpu.gpus.visible_gpus`) on a daemon thread, at once and then every `period_s`.

    It ends after `stop`, and by itself when a reading fails, which is logged: memory is not worth a run.
    """

    def __init__(
        self, logs: Sequence[EventLog], read_gpus: Callable[[], Sequence[MemoryReading]], *, period_s: float = 5.0
    ) -> None:
        self._logs = logs
        self._read_gpus = read_gpus
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples. Returns once the thread has ended."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> MemorySampler:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            while True:
                for gpu in self._read_gpus():
                    for log in self._logs:
                        log.write("memory", gpu=gpu.uuid, used=gpu.used_bytes, total=gpu.total_bytes)
                if self._stop.wait(self._period_s):
                    return
        except Exception:
            logger.exception("GPU memory is not recorded any more")
