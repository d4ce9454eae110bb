"""The memory in use of the replicas' GPUs, as the parent sees it, without a CUDA context."""

from __future__ import annotations

import time
from collections.abc import Sequence

from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus


class GpuMemory:
    """Readings of at most `age_s` seconds. Any process's use of a GPU counts."""

    def __init__(self, age_s: float = 2.0) -> None:
        self._age_s = age_s
        self._read = float("-inf")
        self._bytes: dict[str, tuple[int, int]] = {}

    def of(self, uuids: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """(used, total) bytes of each of these GPUs that the driver knows."""
        if uuids and time.monotonic() - self._read > self._age_s:
            listed = [instance for gpu in inspect_gpus().gpus for instance in (gpu, *gpu.mig_instances)]
            self._bytes = {gpu.uuid: (gpu.used_bytes, gpu.total_bytes) for gpu in listed}
            self._read = time.monotonic()
        return tuple(self._bytes[uuid] for uuid in uuids if uuid in self._bytes)
