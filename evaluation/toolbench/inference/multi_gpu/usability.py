"""Refuses cards that a run cannot use, before anything loads: each for its own reason, in one line with the remedy."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import torch

from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.multi_gpu.gpus import Inspection, asks_for_cpu
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.units import gib

logger = logging.getLogger(__name__)

_LARGE_BYTES = 2**30  # of weights; a smaller model is a test, and bearable on a CPU
_ARCHITECTURE = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)(?P<suffix>[a-z]?)")


def require_usable(found: Inspection) -> None:
    """Raise PlacementError when the driver lists GPUs for this process that torch cannot use."""
    if not found.visible:
        return
    if torch.cuda.is_available():
        refuse_unknown_cards(found.visible, torch.cuda.get_arch_list())
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    raise PlacementError(
        f"the driver ({found.driver_version}, good up to CUDA {found.cuda_version}) lists "
        f"{len(found.visible)} GPU{'s' * (len(found.visible) > 1)}, but torch {torch.__version__}, {built}, cannot "
        "use them: update the driver, install a torch for that CUDA version, or set CUDA_VISIBLE_DEVICES= for the CPU",
        driver_version=found.driver_version,
        torch_cuda_version=torch.version.cuda,
    )


def refuse_closed(gpus: Sequence[Gpu], num_processes: Mapping[str, int] | None = None) -> None:
    """Raise PlacementError for a card whose compute mode keeps this run off; `num_processes` are its own, by UUID."""
    for gpu in gpus:
        count = (num_processes or {}).get(gpu.uuid, 1)
        if not gpu.is_closed and (gpu.compute_mode == "default" or count <= 1):
            continue
        mode = "PROHIBITED" if gpu.compute_mode == "prohibited" else "EXCLUSIVE_PROCESS"
        if mode == "PROHIBITED":
            why = "lets no process compute on it"
        elif gpu.is_closed:
            why = f"lets one process compute on it, and that is another one ({gpu.held_by})"
        else:
            why = f"lets one process compute on it, where {count} replicas would"
        raise PlacementError(
            f"GPU {gpu.cuda_index} ({gpu.name}) is in compute mode {mode}, which {why}: set it to DEFAULT (an "
            f"administrator's `nvidia-smi -i {gpu.nvml_index} -c DEFAULT`), "
            + (
                "lower --num_replicas"
                if count > 1 and not gpu.is_closed
                else "or name other cards in CUDA_VISIBLE_DEVICES"
            ),
            compute_mode=gpu.compute_mode,
        )


def refuse_unknown_cards(gpus: Sequence[Gpu], architectures: Sequence[str]) -> None:
    """Raise PlacementError for a card without kernels in this torch: the first would fail, after minutes of loading.

    `architectures` are torch's, such as "sm_86" (binary, for later cards of that generation as well), "sm_90a" (for
    exactly that one) and "compute_90" (source, for all later cards).
    """
    known = [match for text in architectures if (match := _ARCHITECTURE.fullmatch(text))]
    without = [gpu for gpu in gpus if gpu.compute_capability and known and not _runs_on(gpu.compute_capability, known)]
    if without:
        gpu = without[0]
        assert gpu.compute_capability is not None
        raise PlacementError(
            f"torch {torch.__version__} has no kernels for GPU {gpu.cuda_index} ({gpu.name}, compute capability "
            f"{gpu.compute_capability[0]}.{gpu.compute_capability[1]}), only for {', '.join(architectures)}: install a "
            "torch that has them (older builds serve older cards: https://pytorch.org/get-started/previous-versions), "
            "or name other cards in CUDA_VISIBLE_DEVICES",
            compute_capability=gpu.compute_capability,
            architectures=tuple(architectures),
        )


def _runs_on(capability: tuple[int, int], architectures: Sequence[re.Match[str]]) -> bool:
    for match in architectures:
        kind, major, minor, suffix = match["kind"], int(match["major"]), int(match["minor"]), match["suffix"]
        if suffix:
            fits = capability == (major, minor) or (suffix == "f" and capability[0] == major and capability[1] >= minor)
        elif kind == "sm":
            fits = capability[0] == major and capability[1] >= minor
        else:
            fits = capability >= (major, minor)
        if fits:
            return True
    return False


def refuse_large_on_cpu(found: Inspection, model: str, weight_bytes: int) -> None:
    """Raise PlacementError for a model of gigabytes that would run on the CPU because the GPUs do not work.

    A small one runs there, with a warning. An empty CUDA_VISIBLE_DEVICES, or device "cpu", asks for the CPU.
    """
    if found.problem is None or asks_for_cpu(found.visible_devices):
        return
    words = (
        f"this machine's GPUs cannot be used: {found.problem}. After an update of the driver, restart the machine; "
        "nvidia-smi has to work first"
    )
    if weight_bytes < _LARGE_BYTES:
        logger.warning(words)
        return
    raise PlacementError(
        f"{words}. {model} has {gib(weight_bytes)} of weights, which the CPU would take hours with; "
        "CUDA_VISIBLE_DEVICES= asks for that",
        problem=found.problem,
    )
