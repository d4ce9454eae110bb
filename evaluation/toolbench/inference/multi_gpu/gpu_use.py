"""Tells how the replicas' GPUs are used at this moment, as the parent sees it, without a CUDA context."""

from __future__ import annotations

import time
from collections.abc import Sequence

from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu


class GpuUse:
    """Keeps readings of at most `age_s` seconds. Any process's use of a GPU counts."""

    def __init__(self, age_s: float = 2.0) -> None:
        self._age_s = age_s
        self._read = float("-inf")
        self._gpus: dict[str, Gpu] = {}

    def memory_of(self, uuids: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Return (used, total) bytes of each of these GPUs that the driver knows."""
        return tuple((gpu.used_bytes, gpu.total_bytes) for gpu in self._of(uuids))

    def busy_percents_of(self, uuids: Sequence[str]) -> tuple[int | None, ...]:
        """Return how busy each of them is; None where NVML does not say, as for a MIG instance."""
        return tuple(gpu.busy_percent for gpu in self._of(uuids))

    def _of(self, uuids: Sequence[str]) -> list[Gpu]:
        if uuids and time.monotonic() - self._read > self._age_s:
            self._gpus = {each.uuid: each for gpu in inspect_gpus().gpus for each in (gpu, *gpu.mig_instances)}
            self._read = time.monotonic()
        return [self._gpus[uuid] for uuid in uuids if uuid in self._gpus]
