"""An NVML of GPUs that exist in memory only: the functions of `pynvml` that the package calls, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from evaluation.toolbench.inference.multi_gpu.units import GIB


class NVMLError(Exception):
    pass


@dataclass
class FakeGpu:
    uuid: str
    total: int = 24 * GIB
    used: int = 0
    name: str = "NVIDIA GeForce RTX 4090"
    bus_id: str = "00000000:01:00.0"
    cores: int = 16_384
    holders: Sequence[tuple[int, str, int | None]] = ()  # pid, command, bytes
    mig: Sequence[FakeGpu] = ()
    capability: tuple[int, int] = (8, 9)
    compute_mode: int = 0  # 3: one process at a time
    is_forbidden: bool = False  # by the cgroup of a job: the driver lists it and gives no handle
    busy: int | None = 0  # percent; None: this card does not tell
    is_broken: bool = False  # it fell off the bus: every call about it fails


class BrokenNvml:
    """An NVML that does not start, for the reason `words`."""

    NVMLError = NVMLError

    def __init__(self, words: str) -> None:
        self._words = words

    def nvmlInit(self):
        raise NVMLError(self._words)


class FakeNvml:
    """`gpus` in the driver's order. `missing` names functions that this driver or binding does not have,
    `refused` those that it does not let us call."""

    NVMLError = NVMLError

    def __init__(self, *gpus: FakeGpu, missing: Sequence[str] = (), refused: Sequence[str] = ()) -> None:
        self._gpus = gpus
        self._missing = missing
        self._refused = refused
        self._names = {pid: name for gpu in (*gpus, *(m for g in gpus for m in g.mig)) for pid, name, _ in gpu.holders}
        self.is_open = False

    def __getattribute__(self, name: str):
        if name.startswith("nvml"):
            if name in object.__getattribute__(self, "_missing"):
                raise AttributeError(name)
            if name in object.__getattribute__(self, "_refused"):
                return self._refuse
        return object.__getattribute__(self, name)

    @staticmethod
    def _refuse(*_):
        raise NVMLError("Insufficient Permissions")

    def nvmlInit(self):
        self.is_open = True

    def nvmlShutdown(self):
        self.is_open = False

    def nvmlSystemGetDriverVersion(self):
        return "560.35.03"

    def nvmlSystemGetCudaDriverVersion(self):
        return 12_060

    def nvmlSystemGetProcessName(self, pid):
        return self._names[pid]

    def nvmlDeviceGetCount(self):
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        if self._gpus[index].is_forbidden:
            raise NVMLError("Insufficient Permissions")
        return self._gpus[index]

    def nvmlDeviceGetUUID(self, gpu):
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu):
        return gpu.name.encode()  # old bindings give bytes

    def nvmlDeviceGetMemoryInfo(self, gpu):
        if gpu.is_broken:
            raise NVMLError("GPU is lost")
        return SimpleNamespace(total=gpu.total, used=gpu.used, free=gpu.total - gpu.used)

    def nvmlDeviceGetCudaComputeCapability(self, gpu):
        return gpu.capability

    def nvmlDeviceGetUtilizationRates(self, gpu):
        if gpu.busy is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=gpu.busy, memory=0)

    def nvmlDeviceGetComputeMode(self, gpu):
        return gpu.compute_mode

    def nvmlDeviceGetMemoryBusWidth(self, gpu):
        return 384

    def nvmlDeviceGetNumGpuCores(self, gpu):
        return gpu.cores

    def nvmlDeviceGetMaxClockInfo(self, gpu, clock):
        return {1: 3_105, 2: 10_501}[clock]

    def nvmlDeviceGetPciInfo(self, gpu):
        return SimpleNamespace(busId=gpu.bus_id)

    def nvmlDeviceGetMinorNumber(self, gpu):
        return 10_000  # no such device file exists

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, _, used in gpu.holders]

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu):
        return []

    def nvmlDeviceGetTopologyCommonAncestor(self, gpu, other):
        return 30

    def nvmlDeviceGetP2PStatus(self, gpu, other, capability):
        return 5  # not supported

    def nvmlDeviceGetMigMode(self, gpu):
        if not gpu.mig:
            raise NVMLError("Not Supported")
        return (1, 1)

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu, position):
        if position >= len(gpu.mig):
            raise NVMLError("Not Found")
        return gpu.mig[position]
