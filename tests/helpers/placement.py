"""Footprints and GPUs for planning, without hardware and without weights."""

from __future__ import annotations

from evaluation.toolbench.inference.multi_gpu.footprint import (
    Block,
    Footprint,
    footprint_of_config,
    toolgen_8b_config,
)
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu, GpuProcess
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget
from evaluation.toolbench.inference.multi_gpu.units import GIB

TOOLGEN_8B = footprint_of_config(toolgen_8b_config(), name="ToolGen-Llama-3-8B")


def gpu(index: int, total_gib: float, *, held_gib: float = 0, bandwidth: float | None = None) -> Gpu:
    holders = (GpuProcess(977, "python", int(held_gib * GIB)),) if held_gib else ()
    free = int((total_gib - held_gib) * GIB)
    return Gpu(
        f"GPU-{index}", "Card", int(total_gib * GIB), free, cuda_index=index, processes=holders, bandwidth=bandwidth
    )


def budget(index: int, num_bytes: int) -> GpuBudget:
    return GpuBudget(Gpu(f"GPU-{index}", "Card", num_bytes, num_bytes, cuda_index=index), num_bytes)


def footprint(layers: int = 4, *, weight: int = 100, kv: int = 1, embedding: int = 50, tied: bool = False) -> Footprint:
    """A model in bytes: embedding, `layers` layers, norm, head (with the embedding when tied)."""
    first = ("embed", "head") if tied else ("embed",)
    blocks = [Block(first, embedding, makes_logits=tied)]
    blocks += [Block((f"layers.{index}",), weight, kv) for index in range(layers)]
    blocks += [Block(("norm",), 1)]
    blocks += [] if tied else [Block(("head",), embedding, makes_logits=True)]
    return Footprint("toy", "bfloat16", tuple(blocks), vocab_size=1, activation_bytes_per_token=0, max_length=64)
