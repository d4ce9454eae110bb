"""Checks what is installed and what CUDA sees."""

from __future__ import annotations

import os
from importlib import metadata

import torch

from evaluation.toolbench.inference.doctor.machine import Machine
from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.finding import Finding, needs
from evaluation.toolbench.inference.host_memory import available_bytes, memory_limit
from evaluation.toolbench.inference.multi_gpu.dtypes import resolve_dtype
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.tables import gpu_table
from evaluation.toolbench.inference.multi_gpu.units import gib
from evaluation.toolbench.inference.multi_gpu.usability import refuse_closed, refuse_unknown_cards, require_usable

_OLDEST = {"torch": (2, 11), "transformers": (5, 17), "accelerate": (1, 15)}  # what the tests have run with


def check_versions(machine: Machine) -> list[Finding]:
    """Tell which driver, CUDA, torch, transformers and accelerate there are; can torch use the driver's GPUs?"""
    versions = {name: _version(name) for name in (*_OLDEST, "nvidia-ml-py")}
    versions["torch"] = torch.__version__  # the package's own says nothing of the build, such as +cpu
    found = machine.found
    facts = {
        "driver": found.driver_version,
        "driver_cuda": found.cuda_version,
        "torch_cuda": torch.version.cuda,
        **versions,
    }
    driver = "a driver that does not work" if found.problem else "no NVIDIA driver"
    if found.driver_version:
        driver = f"driver {found.driver_version} (CUDA {found.cuda_version})"
    torch_cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    measured = f"{driver}, torch {versions['torch']} ({torch_cuda}), " + ", ".join(
        f"{name} {versions[name] or 'missing'}" for name in versions if name != "torch"
    )
    outdated = [name for name, oldest in _OLDEST.items() if _numbers(versions[name]) < oldest]
    if outdated:
        advice = f"pip install -r requirements.txt: {', '.join(outdated)} older than tested"
        return [Finding("versions", "fail", measured, advice, facts=facts)]
    if found.problem is not None:
        advice = "restart the machine after an update of the driver, or install it again; nvidia-smi has to work first"
        return [Finding("versions", "fail", f"{found.problem}; {measured}", advice, facts=facts)]
    try:
        require_usable(found)
    except PlacementError as error:
        return [Finding("versions", "fail", measured, str(error), facts=facts)]
    return [Finding("versions", "ok", measured, facts=facts)]


def check_gpus(machine: Machine) -> list[Finding]:
    """Return the table of GPUs."""
    found = machine.found
    if not found.gpus:
        return [Finding("GPUs", "skip", "needs 1 GPU, found 0", details=found.notes)]
    measured = f"{len(found.visible)} visible of {len(found.gpus)}"
    facts = {"gpus": [_facts(gpu) for gpu in found.gpus], "visible": [gpu.uuid for gpu in found.visible]}
    return [Finding("GPUs", "ok", measured, details=(*gpu_table(found), *found.notes), facts=facts)]


def check_cards(machine: Machine) -> list[Finding]:
    """Check that torch has kernels for every card and that its mode lets us; tell the dtype in which it computes."""
    name = "cards"
    visible = machine.found.visible
    if not visible:
        return [needs(name, 1, 0)]
    said = [
        f"cuda:{gpu.cuda_index} "
        + (".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else "unknown")
        for gpu in visible
    ]
    dtype = str(resolve_dtype("auto", visible)).removeprefix("torch.")
    modes = {str(gpu.uuid): gpu.compute_mode for gpu in visible}
    architectures = torch.cuda.get_arch_list()
    measured = f"compute capability: {', '.join(said)}; dtype auto is {dtype}" + "".join(
        f"; cuda:{gpu.cuda_index} is {gpu.compute_mode}" for gpu in visible if gpu.compute_mode != "default"
    )
    facts = {"dtype": dtype, "compute_modes": modes, "torch_architectures": architectures}
    try:
        refuse_unknown_cards(visible, architectures)
        refuse_closed(visible)
    except PlacementError as error:
        return [Finding(name, "fail", measured, str(error), facts=facts)]
    return [Finding(name, "ok", measured, facts=facts)]


def check_main_memory(machine: Machine) -> list[Finding]:
    """Tell how much main memory is free, within a container's or job's limit; without a GPU the weights must fit."""
    name = "main memory"
    free_bytes, limit_bytes = available_bytes(), memory_limit()
    limited = f", of the {gib(limit_bytes)} that this container or job may use" if limit_bytes else ""
    measured = f"{gib(free_bytes)} can be used{limited}"
    facts = {"available_bytes": free_bytes, "limit_bytes": limit_bytes}
    if not machine.gpus and machine.options.model_path and machine.footprint.weight_bytes > free_bytes:
        weights = gib(machine.footprint.weight_bytes)
        advice = f"the model's {weights} of weights do not fit: raise the limit, or use a GPU"
        return [Finding(name, "fail", measured, advice, facts=facts)]
    return [Finding(name, "ok", measured, facts=facts)]


def check_visible_devices(machine: Machine) -> list[Finding]:
    """Tell what CUDA_VISIBLE_DEVICES means here, and check that torch agrees."""
    name = "visible devices"
    found = machine.found
    text = found.visible_devices
    said = "CUDA_VISIBLE_DEVICES is not set" if text is None else f"CUDA_VISIBLE_DEVICES={text}"
    if not found.gpus:
        return [needs(name, 1, 0)]
    order = os.environ.get("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    means = ", ".join(map(_meaning, found.visible))
    measured = f"{said} ({order}): {means or 'no GPU is visible'}"
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    facts = {"CUDA_VISIBLE_DEVICES": text, "CUDA_DEVICE_ORDER": order, "torch_device_count": seen}
    if seen != len(found.visible):
        advice = f"torch sees {seen} GPUs; name them by index, or by UUID as in the table above (nvidia-smi -L)"
        return [Finding(name, "fail", measured, advice, facts=facts)]
    notes = [note for note in found.notes if note.startswith("CUDA_VISIBLE_DEVICES")]
    if notes and (text or "").strip() not in ("", "-1"):  # these two hide the GPUs on purpose
        advice = "name the GPUs that you want, each once, by index or UUID"
        return [Finding(name, "fail", f"{measured}; {notes[0]}", advice, facts=facts)]
    return [Finding(name, "ok", measured, facts=facts)]


def _meaning(gpu: Gpu) -> str:
    known_as = gpu.name if gpu.nvml_index is None else f"the driver's GPU {gpu.nvml_index}"
    return f"cuda:{gpu.cuda_index} is {known_as}"


def _facts(gpu: Gpu) -> dict[str, object]:
    return {key: value for key, value in vars(gpu).items() if key not in ("processes", "mig_instances", "links")} | {
        "held_by": gpu.held_by,
        "links": dict(gpu.links),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (version or "0").split("+")[0].split(".")[:2] if part.isdigit())
