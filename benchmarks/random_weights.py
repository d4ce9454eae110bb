"""Writes a checkpoint of a model's shape with random weights, on the CPU alone, as fast as the disk takes it.

    python -m benchmarks.random_weights 8b /tmp/toolgen_8b

Every matrix is cut from the same random numbers, each at a place of its own: enough to load, to measure memory
and to time steps, and eight billion numbers need not be drawn.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedConfig

from benchmarks.random_model import SHAPES

_SHARD_BYTES = 4 * 2**30
_SCALE = 0.02  # of the numbers, as models are initialised
_DRAWN = 1_000_003  # numbers: prime, so that the rows of a matrix differ
_OFFSETS = 1_000_000  # places at which a matrix may begin


def save_random_weights(config: PreTrainedConfig, folder: Path, dtype: torch.dtype) -> None:
    """Saves config and weights in `folder`, in shards with an index; does nothing where that has been done."""
    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    shapes = {name: tensor.shape for name, tensor in model.named_parameters()}  # tied ones once
    torch.manual_seed(0)
    pool = torch.empty(max(shape.numel() for shape in shapes.values()) + _OFFSETS, dtype=dtype)
    drawn = pool[:_DRAWN].normal_(std=_SCALE)
    for rest in pool[_DRAWN:].split(_DRAWN):
        rest.copy_(drawn[: len(rest)])
    shards = _shards(shapes, dtype.itemsize)
    files = {f"model-{number:05}-of-{len(shards):05}.safetensors": names for number, names in enumerate(shards, 1)}

    def save(file: str) -> None:
        tensors = {name: _tensor(pool, shapes[name], zlib.crc32(name.encode()) % _OFFSETS) for name in files[file]}
        save_file(tensors, folder / file, metadata={"format": "pt"})

    with ThreadPoolExecutor() as threads:
        list(threads.map(save, files))
    weight_map = {name: file for file, names in files.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config.dtype = dtype
    config.save_pretrained(folder)  # last: what is there is whole


def _shards(shapes: Mapping[str, torch.Size], item_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = []
    left = 0
    for name, shape in shapes.items():
        num_bytes = shape.numel() * item_bytes
        if num_bytes > left:
            shards.append([])
            left = _SHARD_BYTES
        shards[-1].append(name)
        left -= num_bytes
    return shards


def _tensor(pool: torch.Tensor, shape: torch.Size, start: int) -> torch.Tensor:
    """Return a tensor from the pool; the scale of a norm is one, as it is before training."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=pool.dtype)
    return pool[start : start + shape.numel()].view(shape).clone()


if __name__ == "__main__":
    save_random_weights(SHAPES[sys.argv[1]](), Path(sys.argv[2]), torch.bfloat16)
