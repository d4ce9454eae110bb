"""Reads device maps: which module lies where, how even that is, and what `device_map="auto"` would make of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch

from evaluation.toolbench.inference.multi_gpu.footprint import Footprint

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MOST_UNEVEN = 1.3  # times the weights that another GPU holds: more, and that one waits for most of a step

Place = int | str  # a CUDA index, "cpu" or "disk"


def auto_device_map(config: PretrainedConfig, dtype: torch.dtype, max_memory: Mapping[int, str]) -> dict[str, Place]:
    """Returns what the installed transformers makes of `device_map="auto"`, from sizes alone.

    The two functions are those that `from_pretrained` calls; the model is built on the meta device.
    """
    from transformers import AutoModelForCausalLM
    from transformers.integrations.accelerate import get_balanced_memory, infer_auto_device_map

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    unsplit = model._no_split_modules
    balanced = get_balanced_memory(model, max_memory=dict(max_memory), no_split_module_classes=unsplit)
    return dict(infer_auto_device_map(model, max_memory=balanced, no_split_module_classes=unsplit))


def place_of(module: str, device_map: Mapping[str, Place]) -> Place | None:
    """Returns where `module` lies: the place of its nearest parent in the map; None if it is split further.

    >>> place_of("model.layers.1", {"model.layers.1": 1, "model": 0}), place_of("lm_head", {"": "cpu"})
    (1, 'cpu')
    """
    parents = [name for name in device_map if not name or f"{module}.".startswith(f"{name}.")]
    return device_map[max(parents, key=len)] if parents else None


def weights_by_place(device_map: Mapping[str, Place], footprint: Footprint) -> Counter[Place]:
    """Returns the bytes of weights at each place. A block that the map splits counts where its first part lies."""
    weights: Counter[Place] = Counter()
    for block in footprint.blocks:
        module = block.modules[0]
        place = place_of(module, device_map)
        if place is None:
            place = next(place for name, place in device_map.items() if name.startswith(f"{module}."))
        weights[place] += block.weight_bytes
    return weights


def unevenness(device_map: Mapping[str, Place], footprint: Footprint, gpus: Collection[int]) -> str | None:
    """Returns what is wrong with a map over `gpus`, for a sentence; None if each of them holds its share.

    A share is at most `MOST_UNEVEN` times any other GPU's.
    """
    weights = weights_by_place(device_map, footprint)
    outside = [place for place in weights if place not in gpus]
    if outside:
        return f"puts layers on {outside[0]}"
    empty = [index for index in gpus if not weights[index]]
    if empty:
        return f"leaves GPU {', '.join(map(str, empty))} empty"
    fullest, emptiest = max(gpus, key=lambda index: weights[index]), min(gpus, key=lambda index: weights[index])
    times = weights[fullest] / weights[emptiest]
    return f"puts {times:.1f} times as much on GPU {fullest} as on GPU {emptiest}" if times > MOST_UNEVEN else None
