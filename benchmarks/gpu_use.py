"""Measures how busy GPUs are while something runs, as NVML sees it: ten samples a second, on its own thread."""

from __future__ import annotations

import contextlib
import importlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.sampling import sampling

_INTERVAL_S = 0.1


@dataclass
class GpuUse:
    """`samples[i]` is GPU i's share of time with a kernel running, 0 to 1, sample by sample."""

    samples: list[list[float]] = field(default_factory=list)

    @property
    def busy_gpus(self) -> float | None:
        """Return GPUs busy at the same time, on average: 1.0 for two that take turns, 2.0 for two that never wait."""
        return round(sum(map(statistics.fmean, self.samples)), 2) if all(self.samples) and self.samples else None

    @property
    def shares(self) -> list[float]:
        return [round(statistics.fmean(samples), 2) for samples in self.samples if samples]


@contextlib.contextmanager
def watching(uuids: Sequence[str], nvml: Any = None) -> Iterator[GpuUse]:
    """Samples the GPUs `uuids` until the end of the block; nothing is sampled where there are none."""
    use = GpuUse([[] for _ in uuids])
    if not uuids:
        yield use
        return
    nvml = nvml or importlib.import_module("pynvml")
    nvml.nvmlInit()
    handles = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]

    def note() -> None:
        for samples, handle in zip(use.samples, handles, strict=True):
            samples.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)

    try:
        with sampling(note, _INTERVAL_S):
            yield use
    finally:
        nvml.nvmlShutdown()
