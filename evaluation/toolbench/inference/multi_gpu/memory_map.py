"""Decides how much of each GPU a model may use: the `max_memory` map that `device_map="auto"` takes.

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

from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.memory_shares import GPU_SHARE
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.units import GIB, format_exact, gib, parse_size

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def get_gpu_memory(max_gpus: int | None = None) -> list[float]:
    """Return the GiB free now on each visible GPU, the first `max_gpus` of them."""
    return [gpu.free_bytes / GIB for gpu in visible_gpus()[:max_gpus]]


def build_max_memory(num_gpus: int, max_gpu_memory: str | Mapping[int, str] | None = None) -> dict[int, str]:
    """Return CUDA index -> budget like "20GiB", for `num_gpus` of the visible GPUs.

    Raises PlacementError when fewer GPUs are visible or one has less than asked for, ConfigError when
    `max_gpu_memory` cannot be read.
    """
    return max_memory_of(visible_gpus(), num_gpus, max_gpu_memory)


def max_memory_of(
    visible: Sequence[Gpu], num_gpus: int, max_gpu_memory: str | Mapping[int, str] | None = None
) -> dict[int, str]:
    """Do as `build_max_memory`, for GPUs that have been read (`visible[i].cuda_index` is i)."""
    if num_gpus < 1:
        raise ConfigError(f"num_gpus={num_gpus}: a memory map needs at least one GPU")
    if num_gpus > len(visible):
        remedy = (
            "lower num_gpus or let CUDA_VISIBLE_DEVICES name more GPUs"
            if visible
            else "`nvidia-smi` tells whether there is a card with a driver, CUDA_VISIBLE_DEVICES may hide it, and this "
            "PyTorch may be for processors"
        )
        raise PlacementError(
            f"num_gpus={num_gpus}, but CUDA sees {_count(len(visible)) if visible else 'no GPU'}; {remedy}",
            asked=num_gpus,
            visible=len(visible),
        )
    if max_gpu_memory is None:
        return {i: _default_text(visible[i].free_bytes) for i in range(num_gpus)}
    texts = _texts_per_gpu(max_gpu_memory, num_gpus, len(visible))
    return {index: _budget(text, index, visible[index]) for index, text in texts.items()}


def default_budget(free_bytes: int) -> int:
    """Returns how many bytes a model may use without further instructions of a GPU with `free_bytes` free."""
    text = _default_text(free_bytes)
    return parse_size(text) if text[0] != "0" else 0


def check_amounts(max_gpu_memory: str) -> None:
    """Raise ConfigError when an amount in `max_gpu_memory` cannot be read, whatever GPUs there are."""
    for text in max_gpu_memory.split(","):
        _parse_amount(text)


def _default_text(free_bytes: int) -> str:
    return format_exact(int(free_bytes * GPU_SHARE))


def _texts_per_gpu(max_gpu_memory: str | Mapping[int, str], num_gpus: int, num_visible: int) -> dict[int, str]:
    if isinstance(max_gpu_memory, str):
        texts = max_gpu_memory.split(",")
        if len(texts) not in (1, num_gpus):
            raise ConfigError(
                f"max_gpu_memory={max_gpu_memory!r} has {len(texts)} amounts for num_gpus={num_gpus}; "
                "give one for all GPUs or one for each"
            )
        return dict(enumerate(texts * num_gpus if len(texts) == 1 else texts))
    if not isinstance(max_gpu_memory, Mapping):
        raise ConfigError(f"max_gpu_memory={max_gpu_memory!r} is neither a text like '20GiB' nor a dict of such texts")
    unknown = [index for index in max_gpu_memory if index not in range(num_visible)]
    if unknown:
        raise ConfigError(
            f"max_gpu_memory names GPU {unknown[0]!r}; the visible ones are {', '.join(map(str, range(num_visible)))}"
        )
    if len(max_gpu_memory) != num_gpus:
        raise ConfigError(f"max_gpu_memory names {_count(len(max_gpu_memory))} and num_gpus={num_gpus}")
    return dict(sorted(max_gpu_memory.items()))


def _budget(text: str, index: int, gpu: Gpu) -> str:
    amount = _parse_amount(text)
    if isinstance(amount, float):
        return format_exact(int(gpu.free_bytes * amount))
    num_bytes = amount
    if num_bytes > gpu.total_bytes:
        raise PlacementError(
            f"max_gpu_memory={text!r} for GPU {index} ({gpu.name}), which has {gib(gpu.total_bytes)}; "
            f"{gib(gpu.free_bytes)} of it are free now",
            gpu=index,
            asked_bytes=num_bytes,
            total_bytes=gpu.total_bytes,
        )
    return format_exact(num_bytes)


def _parse_amount(text: str) -> int | float:
    """Return the bytes, or the share of the free memory, that `text` names."""
    if not isinstance(text, str):
        raise ConfigError(f"max_gpu_memory: {text!r} is not a text with a unit, like '20GiB' or '80%'")
    percent = _PERCENT.fullmatch(text.strip())
    if percent is None:
        return parse_size(text)
    share = float(percent[1]) / 100
    if not 0 < share <= 1:
        raise ConfigError(f"max_gpu_memory={text!r}: a share of the free memory is above 0% and at most 100%")
    return share


def _count(num_gpus: int) -> str:
    return "1 GPU" if num_gpus == 1 else f"{num_gpus} GPUs"
