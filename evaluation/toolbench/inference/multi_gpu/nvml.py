"""Reads GPUs through NVML. Every call may be missing, refused or unsupported: then its fact is absent.

`nvml` is the module `pynvml` of the package nvidia-ml-py, or a stand-in with the same functions.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evaluation.toolbench.inference.multi_gpu.units import gib

_DATA_RATE = 2  # both edges of the memory clock; for GDDR6X NVML reports the clock that makes this true
_NO_DRIVER = ("driver not loaded", "library not found")  # what NVML says where nothing is installed
_UNLISTED_BYTES = 2**30  # memory in use that no listed process explains, above which we look in /proc


ComputeMode = Literal["default", "exclusive", "prohibited"]  # how many processes may use a card: all, one, none
_COMPUTE_MODES: dict[int, ComputeMode] = {1: "exclusive", 2: "prohibited", 3: "exclusive"}


@dataclass(frozen=True)
class GpuProcess:
    """Describes a process that holds GPU memory. `used_bytes` is None where the driver does not say."""

    pid: int
    name: str | None = None
    used_bytes: int | None = None

    def __str__(self) -> str:
        who = f"pid {self.pid}" + (f", {self.name}" if self.name else "")
        return f"{gib(self.used_bytes)} by {who}" if self.used_bytes else who


@dataclass(frozen=True)
class Gpu:
    """Describes one GPU, or one MIG instance. What could not be read is None or empty."""

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    nvml_index: int | None = None
    cuda_index: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    compute_capability: tuple[int, int] | None = None
    bandwidth: float | None = None  # of its memory, bytes per second, from clock and bus width
    speed: float | None = None  # cores x clock, arbitrary unit: what FASTEST_FIRST sorts by, roughly
    pci_bus_id: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)  # other GPU's UUID -> how it is reached
    mig_instances: tuple[Gpu, ...] = ()
    compute_mode: ComputeMode = "default"
    busy_percent: int | None = None  # of the last moment, the share in which a kernel ran on it

    @property
    def used_bytes(self) -> int:
        return self.total_bytes - self.free_bytes

    @property
    def is_closed(self) -> bool:
        """Return whether its compute mode keeps this process off: no process may use it, or one and another does."""
        return self.compute_mode == "prohibited" or (self.compute_mode == "exclusive" and bool(self.processes))

    @property
    def held_by(self) -> str:
        """Return words such as "21.1 GiB by pid 977, python"; empty when nobody is known to hold anything."""
        return "; ".join(map(str, self.processes))


@dataclass(frozen=True)
class NvmlReading:
    """Holds the GPUs in NVML's order, without `cuda_index`."""

    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    cuda_version: str | None = None
    notes: tuple[str, ...] = ()
    num_unread: int = 0  # GPUs that the driver lists and does not describe
    problem: str | None = None  # NVML's own words, where there is a driver that does not work


def read_nvml(nvml: Any = None) -> NvmlReading:
    """Read what NVML tells about every GPU; without NVML the reading is empty and says why."""
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return NvmlReading(notes=("NVML is not readable: the package nvidia-ml-py is not installed",))
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        words = str(error)
        is_absent = any(known in words.lower() for known in _NO_DRIVER)
        return NvmlReading(notes=(f"NVML is not readable: {words}",), problem=None if is_absent else words)
    try:
        return _read_all(nvml)
    finally:
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            nvml.nvmlShutdown()


def _read_all(nvml: Any) -> NvmlReading:
    ask = _asker(nvml)
    gpus: list[Gpu] = []
    handles: list[Any] = []
    notes: list[str] = []
    for index in range(ask("nvmlDeviceGetCount") or 0):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpu = _read_gpu(nvml, handle, index)
        except (nvml.NVMLError, AttributeError) as error:
            notes.append(f"GPU {index} of the driver cannot be read: {error}")
            continue
        gpus.append(gpu)
        handles.append(handle)
    gpus = [
        replace(gpu, links=_links(nvml, handle, gpu, list(zip(gpus, handles, strict=True))))
        for gpu, handle in zip(gpus, handles, strict=True)
    ]
    cuda = ask("nvmlSystemGetCudaDriverVersion")
    return NvmlReading(
        gpus=tuple(gpus),
        driver_version=_text(ask("nvmlSystemGetDriverVersion")),
        cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        notes=tuple(notes),
        num_unread=len(notes),
    )


def _read_gpu(nvml: Any, handle: Any, index: int) -> Gpu:
    """Read one GPU. NVMLError without even UUID or memory: such a GPU cannot be planned for.

    Of a GPU in MIG mode the driver may tell its own memory to administrators only: then it is its instances'.
    """
    ask = _asker(nvml)
    instances = _mig_instances(nvml, handle, index)
    memory = ask("nvmlDeviceGetMemoryInfo", handle) if instances else nvml.nvmlDeviceGetMemoryInfo(handle)
    total_bytes = int(memory.total) if memory else sum(instance.total_bytes for instance in instances)
    free_bytes = int(memory.free) if memory else sum(instance.free_bytes for instance in instances)
    capability = ask("nvmlDeviceGetCudaComputeCapability", handle)
    return Gpu(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)) or "",
        name=_text(ask("nvmlDeviceGetName", handle)) or "unknown GPU",
        total_bytes=total_bytes,
        free_bytes=free_bytes,
        nvml_index=index,
        processes=_processes(nvml, handle, total_bytes - free_bytes),
        compute_capability=tuple(capability) if capability else None,
        bandwidth=_bandwidth(nvml, handle),
        speed=_speed(nvml, handle),
        compute_mode=_COMPUTE_MODES.get(ask("nvmlDeviceGetComputeMode", handle), "default"),
        pci_bus_id=_text(getattr(ask("nvmlDeviceGetPciInfo", handle), "busId", None)),
        mig_instances=instances,
        busy_percent=_number(getattr(ask("nvmlDeviceGetUtilizationRates", handle), "gpu", None)),
    )


def _bandwidth(nvml: Any, handle: Any) -> float | None:
    ask = _asker(nvml)
    bus_bits = ask("nvmlDeviceGetMemoryBusWidth", handle)
    clock_mhz = ask("nvmlDeviceGetMaxClockInfo", handle, getattr(nvml, "NVML_CLOCK_MEM", 2))
    return bus_bits / 8 * clock_mhz * 1e6 * _DATA_RATE if bus_bits and clock_mhz else None


def _speed(nvml: Any, handle: Any) -> float | None:
    ask = _asker(nvml)
    cores = ask("nvmlDeviceGetNumGpuCores", handle)
    clock_mhz = ask("nvmlDeviceGetMaxClockInfo", handle, getattr(nvml, "NVML_CLOCK_SM", 1))
    return float(cores * clock_mhz) if cores and clock_mhz else None


def _processes(nvml: Any, handle: Any, used_bytes: int) -> tuple[GpuProcess, ...]:
    """Return who holds this GPU, largest first, without this process.

    In a container the driver may list nobody. Then the processes that have the GPU's device file open
    are named, without a size: a process opens the files of all GPUs it could use, so on machines with
    several it is a hint and no proof.
    """
    ask = _asker(nvml)
    found: dict[int, GpuProcess] = {}
    for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        for process in ask(function, handle) or ():
            name = _text(ask("nvmlSystemGetProcessName", process.pid))
            used = getattr(process, "usedGpuMemory", None)
            found[process.pid] = GpuProcess(process.pid, os.path.basename(name.split()[0]) if name else None, used)
    explained = sum(process.used_bytes or 0 for process in found.values())
    minor = ask("nvmlDeviceGetMinorNumber", handle)
    if minor is not None and used_bytes - explained > _UNLISTED_BYTES and os.getpid() not in found:
        for process in processes_with_open_device(Path(f"/dev/nvidia{minor}")):
            found.setdefault(process.pid, process)
    found.pop(os.getpid(), None)
    return tuple(sorted(found.values(), key=lambda process: -(process.used_bytes or 0)))


def processes_with_open_device(device_file: Path, proc: Path = Path("/proc")) -> list[GpuProcess]:
    """Return the processes that have `device_file` open, as far as we may look; this one left out."""
    found = []
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = {os.readlink(link) for link in (folder / "fd").iterdir()}
            if str(device_file) in links and int(folder.name) != os.getpid():
                found.append(GpuProcess(int(folder.name), (folder / "comm").read_text(encoding="utf-8").strip()))
    return found


def _links(nvml: Any, handle: Any, gpu: Gpu, others: list[tuple[Gpu, Any]]) -> dict[str, str]:
    """Return other GPU's UUID -> "NVLink", "same PCIe switch", "across CPU sockets" ..."""
    ask = _asker(nvml)
    names = {0: "same board", 10: "same PCIe switch", 20: "PCIe switches", 30: "host bridge", 40: "same CPU socket"}
    links = {}
    for other, other_handle in others:
        if other.uuid == gpu.uuid:
            continue
        nvlink = ask("nvmlDeviceGetP2PStatus", handle, other_handle, getattr(nvml, "NVML_P2P_CAPS_INDEX_NVLINK", 2))
        level = ask("nvmlDeviceGetTopologyCommonAncestor", handle, other_handle)
        if nvlink == 0:  # NVML_P2P_STATUS_OK
            links[other.uuid] = "NVLink"
        elif level is not None:
            links[other.uuid] = names.get(level, "across CPU sockets")
    return links


def _mig_instances(nvml: Any, handle: Any, index: int) -> tuple[Gpu, ...]:
    ask = _asker(nvml)
    mode = ask("nvmlDeviceGetMigMode", handle)
    if not mode or mode[0] != 1:
        return ()
    instances = []
    for position in range(ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        instance = ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, position)
        if instance is not None:
            with contextlib.suppress(nvml.NVMLError, AttributeError):
                instances.append(_read_instance(nvml, instance, index))
    return tuple(instances)


def _read_instance(nvml: Any, instance: Any, index: int) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(instance)
    return Gpu(
        uuid=_text(nvml.nvmlDeviceGetUUID(instance)) or "",
        name=_text(_asker(nvml)("nvmlDeviceGetName", instance)) or "MIG instance",
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        nvml_index=index,
        processes=_processes(nvml, instance, 0),
    )


def _asker(nvml: Any) -> Callable[..., Any]:
    """Return what calls an NVML function by name; None where driver, binding or our rights do not provide it."""

    def ask(function: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, function)(*arguments)
        except (nvml.NVMLError, AttributeError, UnicodeDecodeError):  # the last for odd process names
            return None

    return ask


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
