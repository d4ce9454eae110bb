"""Lists the GPUs of this machine: what the driver names, what CUDA will see, and who holds their memory.

Three names for a GPU: `nvml_index` is the driver's (and nvidia-smi's), `cuda_index` is torch's in this
process, `uuid` stays true whatever CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER say. Reading goes through
NVML and creates no CUDA context; without NVML (ROCm, a driver that does not answer) torch is asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from evaluation.toolbench.inference.multi_gpu.nvml import Gpu, read_nvml
from evaluation.toolbench.inference.multi_gpu.visible_devices import Device, resolve_visible_devices
from evaluation.toolbench.json_input import read_text

logger = logging.getLogger(__name__)

_NVIDIA = "0x10de"
_DISPLAYS = ("0x0300", "0x0302")  # PCI classes of graphics cards and of those without a display


@dataclass(frozen=True)
class Inspection:
    """Says what was found. `visible` is in CUDA's order; `gpus` in the driver's, hidden ones included."""

    gpus: tuple[Gpu, ...] = ()
    visible: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    cuda_version: str | None = None  # the newest that the driver supports
    visible_devices: str | None = None  # CUDA_VISIBLE_DEVICES as it is set
    notes: tuple[str, ...] = ()  # what was ignored, what is a guess, what could not be read
    order_is_a_guess: bool = False
    problem: str | None = None  # why this machine's GPUs cannot be used, as far as that is known


def inspect_gpus(
    nvml: Any = None,
    environ: Mapping[str, str] | None = None,
    cuda_uuids: Callable[[], Sequence[str]] | None = None,
) -> Inspection:
    """Return all GPUs and the visible ones. Never raises: what cannot be read is missing and said in `notes`.

    `nvml` is the module pynvml or anything with its functions. `cuda_uuids` tells CUDA's own order when
    the driver's list cannot (different cards under FASTEST_FIRST); by default torch is asked if it has
    initialised CUDA already, otherwise the order is a guess and marked as one.
    """
    environ = os.environ if environ is None else environ
    listed = read_nvml(nvml)
    text = environ.get("CUDA_VISIBLE_DEVICES")
    if not listed.gpus:
        visible = tuple(read_torch()) if nvml is None else ()
        problem = None if visible else listed.problem or _undriven_cards(nvml)
        return Inspection(
            visible, visible, listed.driver_version, listed.cuda_version, text, listed.notes, problem=problem
        )
    in_order, differ = _cuda_order(listed.gpus, environ.get("CUDA_DEVICE_ORDER", "FASTEST_FIRST"))
    guessed = differ or listed.num_unread > 0  # CUDA may number a GPU that the driver does not describe
    resolved = resolve_visible_devices(text, [_device(gpu) for gpu in in_order])
    uuids: Sequence[str] = resolved.uuids
    if cuda_uuids is None and nvml is None and torch.cuda.is_initialized():
        cuda_uuids = torch_cuda_uuids
    known = cuda_uuids() if cuda_uuids else ()
    if known:
        uuids, guessed = [_full_uuid(uuid, listed.gpus) for uuid in known], False
    notes = listed.notes + ((f"CUDA_VISIBLE_DEVICES={text}: {resolved.note}",) if resolved.note else ())
    if guessed and differ:
        notes += (
            "different cards: which one is cuda:0 is a guess until CUDA runs; CUDA_DEVICE_ORDER=PCI_BUS_ID settles it",
        )
    by_uuid = {instance.uuid: instance for gpu in listed.gpus for instance in (gpu, *gpu.mig_instances)}
    visible = tuple(replace(by_uuid[uuid], cuda_index=index) for index, uuid in enumerate(uuids) if uuid in by_uuid)
    return Inspection(listed.gpus, visible, listed.driver_version, listed.cuda_version, text, notes, guessed)


def visible_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, `gpus[i].cuda_index == i`, their memory as it is now.

    Where the driver's list leaves CUDA's order open, torch is asked, which initialises CUDA but puts no
    context on any GPU. Where it lacks what CUDA sees, torch's own reading serves.
    """
    found = inspect_gpus()
    for note in found.notes:
        if note.startswith("CUDA_VISIBLE_DEVICES") and not asks_for_cpu(found.visible_devices):
            _warn_once(note)
    visible = inspect_gpus(cuda_uuids=torch_cuda_uuids).visible if found.order_is_a_guess else found.visible
    if not visible or [gpu.cuda_index for gpu in visible] != list(range(len(visible))):
        return tuple(read_torch())
    return visible


def asks_for_cpu(visible_devices: str | None) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES hides the GPUs on purpose."""
    return visible_devices is not None and visible_devices.strip() in ("", "-1")


@lru_cache(maxsize=8)
def _warn_once(note: str) -> None:
    logger.warning(note)


def _undriven_cards(nvml: Any, devices: Path = Path("/sys/bus/pci/devices")) -> str | None:
    """Return what the PCI bus tells of NVIDIA's cards where no driver does."""
    if nvml is not None:
        return None
    count = 0
    for device in devices.glob("*"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            is_nvidia = read_text(device / "vendor").strip() == _NVIDIA
            count += is_nvidia and read_text(device / "class").startswith(_DISPLAYS)
    return f"{count} NVIDIA card{'s' * (count > 1)} on the PCI bus, but no working driver here" if count else None


def torch_cuda_uuids() -> list[str]:
    """Return UUIDs in CUDA's order, without their "GPU-" prefix. Initialises CUDA."""
    if not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


def read_torch() -> list[Gpu]:
    """Return the visible GPUs as torch knows them. Creates a context on each: only for machines without NVML."""
    if not torch.cuda.is_available():
        return []
    gpus = []
    for index in range(torch.cuda.device_count()):
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        properties = torch.cuda.get_device_properties(index)
        gpus.append(
            Gpu(
                uuid=f"GPU-{getattr(properties, 'uuid', index)}",
                name=properties.name,
                total_bytes=total_bytes,
                free_bytes=free_bytes,
                cuda_index=index,
                compute_capability=(properties.major, properties.minor),
            )
        )
    return gpus


def _cuda_order(gpus: Sequence[Gpu], device_order: str) -> tuple[list[Gpu], bool]:
    """Return `gpus` as CUDA numbers them, and whether that is a guess.

    By bus id when CUDA_DEVICE_ORDER says so. Otherwise fastest first, by a heuristic that CUDA does not
    document; among equal cards that leaves the bus order.
    """
    by_bus = sorted(gpus, key=lambda gpu: gpu.pci_bus_id or "")
    if device_order.strip() == "PCI_BUS_ID":
        return by_bus, False
    return sorted(by_bus, key=lambda gpu: -(gpu.speed or 0)), len({(gpu.name, gpu.speed) for gpu in gpus}) > 1


def _device(gpu: Gpu) -> Device:
    return Device(gpu.uuid, tuple(instance.uuid for instance in gpu.mig_instances))


def _full_uuid(uuid: str, gpus: Sequence[Gpu]) -> str:
    """Return the driver's spelling of a UUID that torch gives without prefix (it knows a MIG instance by its own)."""
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-").lower()
    spellings = (instance.uuid for gpu in gpus for instance in (gpu, *gpu.mig_instances))
    return next((known for known in spellings if known[4:].lower() == bare), uuid)
