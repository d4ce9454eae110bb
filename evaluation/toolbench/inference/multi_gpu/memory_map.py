"""How much of each GPU a model may use: the `max_memory` map that `device_map="auto"` takes.

Without instructions, 85% of what is free now, so that other processes count and the KV cache, the
logits and the allocator have room beside the weights. Or what `max_gpu_memory` says:

    "20GiB" "20000MiB"    the same for every GPU
    "80%"                 that share of what is free now on each
    "20GiB,10GiB"         one per GPU, in CUDA order
    {0: "20GiB", 2: "80%"}    one per GPU, by CUDA index (Python only)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.multi_gpu.units import GIB, format_budget, format_exact, gib, parse_size

DEFAULT_SHARE = 0.85  # of the free memory; the rest is the allocator's slack and the CUDA context

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class GpuMemory:
    """Memory of the GPU with CUDA index `index`, in bytes, as it is now."""

    index: int
    name: str
    free_bytes: int
    total_bytes: int


def read_gpu_memory() -> list[GpuMemory]:
    """Every GPU that CUDA_VISIBLE_DEVICES leaves, in CUDA's order; empty without one."""
    if not torch.cuda.is_available():
        return []
    memory = []
    for index in range(torch.cuda.device_count()):
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        memory.append(GpuMemory(index, torch.cuda.get_device_name(index), free_bytes, total_bytes))
    return memory


def get_gpu_memory(max_gpus: int | None = None) -> list[float]:
    """GiB free now on each visible GPU, the first `max_gpus` of them."""
    return [gpu.free_bytes / GIB for gpu in read_gpu_memory()[:max_gpus]]


def build_max_memory(num_gpus: int, max_gpu_memory: str | Mapping[int, str] | None = None) -> dict[int, str]:
    """CUDA index -> budget like "20GiB", for `num_gpus` of the visible GPUs.

    Raises PlacementError when fewer GPUs are visible or one has less than asked for, ConfigError when
    `max_gpu_memory` cannot be read.
    """
    return max_memory_of(read_gpu_memory(), num_gpus, max_gpu_memory)


def max_memory_of(
    visible: Sequence[GpuMemory], num_gpus: int, max_gpu_memory: str | Mapping[int, str] | None = None
) -> dict[int, str]:
    """As `build_max_memory`, of GPUs that have been read."""
    if num_gpus < 1:
        raise ConfigError(f"num_gpus={num_gpus}: a memory map needs at least one GPU")
    if num_gpus > len(visible):
        raise PlacementError(
            f"num_gpus={num_gpus} but {_count(len(visible))} visible; "
            "lower num_gpus or let CUDA_VISIBLE_DEVICES name more GPUs",
            asked=num_gpus,
            visible=len(visible),
        )
    if max_gpu_memory is None:
        return {gpu.index: format_budget(int(gpu.free_bytes * DEFAULT_SHARE)) for gpu in visible[:num_gpus]}
    by_index = {gpu.index: gpu for gpu in visible}
    return {
        index: _budget(text, by_index[index])
        for index, text in _texts_per_gpu(max_gpu_memory, list(by_index), num_gpus).items()
    }


def _texts_per_gpu(
    max_gpu_memory: str | Mapping[int, str], indices: Sequence[int], num_gpus: int
) -> dict[int, str]:
    if isinstance(max_gpu_memory, str):
        texts = max_gpu_memory.split(",")
        if len(texts) == 1:
            return dict.fromkeys(indices[:num_gpus], max_gpu_memory)
        if len(texts) != num_gpus:
            raise ConfigError(
                f"max_gpu_memory={max_gpu_memory!r} has {len(texts)} amounts for num_gpus={num_gpus}; "
                "give one for all GPUs or one for each"
            )
        return dict(zip(indices, texts, strict=False))
    unknown = [index for index in max_gpu_memory if index not in indices]
    if unknown:
        raise ConfigError(
            f"max_gpu_memory names {', '.join(map(repr, unknown))}; "
            f"the visible GPUs are {', '.join(map(str, indices))}"
        )
    if len(max_gpu_memory) != num_gpus:
        raise ConfigError(f"max_gpu_memory names {len(max_gpu_memory)} GPUs and num_gpus={num_gpus}")
    return dict(sorted(max_gpu_memory.items()))


def _budget(text: str, gpu: GpuMemory) -> str:
    percent = _PERCENT.fullmatch(text.strip())
    if percent:
        share = float(percent[1]) / 100
        if not 0 < share <= 1:
            raise ConfigError(f"max_gpu_memory={text!r}: a share of the free memory is above 0% and at most 100%")
        return format_budget(int(gpu.free_bytes * share))
    num_bytes = parse_size(text)
    if num_bytes > gpu.total_bytes:
        raise PlacementError(
            f"max_gpu_memory={text!r} for GPU {gpu.index} ({gpu.name}), which has {gib(gpu.total_bytes)}; "
            f"{gib(gpu.free_bytes)} of it are free now",
            gpu=gpu.index,
            asked_bytes=num_bytes,
            total_bytes=gpu.total_bytes,
        )
    return format_exact(num_bytes)


def _count(num_gpus: int) -> str:
    return "1 GPU is" if num_gpus == 1 else f"{num_gpus} GPUs are"
