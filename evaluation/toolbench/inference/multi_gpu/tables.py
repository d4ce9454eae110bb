"""Writes GPUs, placements and device maps as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.toolbench.inference.multi_gpu.gpus import Inspection
from evaluation.toolbench.inference.multi_gpu.placement import Placement
from evaluation.toolbench.inference.multi_gpu.units import gib

WIDTH = 110  # of a line of prose


def gpu_table(found: Inspection) -> list[str]:
    """Show every GPU of the driver (or of torch), its numbers, its memory, and who holds it."""
    cuda_index = {gpu.uuid: gpu.cuda_index for gpu in found.visible}
    instances = [instance for gpu in found.gpus for instance in (gpu, *gpu.mig_instances)]
    rows = []
    for gpu in instances:
        number = cuda_index.get(gpu.uuid)
        rows.append(
            [
                "hidden" if number is None else f"cuda:{number}",
                "-" if gpu.nvml_index is None else str(gpu.nvml_index),
                gpu.name,
                f"{gib(gpu.free_bytes)} of {gib(gpu.total_bytes)}",
                ".".join(map(str, gpu.compute_capability or "?")),
                f"{gpu.bandwidth / 1e12:.2f} TB/s" if gpu.bandwidth else "?",
                gpu.uuid,
                gpu.held_by or "nobody",
            ]
        )
    return align(["CUDA", "NVML", "name", "free", "capability", "bandwidth", "UUID", "held by"], rows)


def layout_table(layout: Placement) -> list[str]:
    """Show what the plan puts on every GPU and what it leaves of the budget."""
    rows = []
    for number, replica in enumerate(layout.replicas):
        for shard in replica.shards:
            used = replica.used_bytes(shard)
            rows.append(
                [
                    str(number),
                    f"cuda:{shard.index}",
                    str(shard.num_layers),
                    gib(shard.weight_bytes),
                    f"{gib(shard.kv_bytes_per_token * replica.kv_tokens)} ({replica.kv_tokens:,} tokens)",
                    gib(shard.working_bytes),
                    gib(used),
                    gib(shard.budget.num_bytes - used),
                    f"{gib(shard.budget.num_bytes)} of {gib(shard.budget.gpu.free_bytes)} free",
                ]
            )
        if replica.offloaded:
            layers = sum(block.kv_bytes_per_token > 0 for block in replica.offloaded)
            weights = gib(sum(block.weight_bytes for block in replica.offloaded))
            rows.append([str(number), "cpu", str(layers), weights, "on the first GPU", "", "", "", ""])
    return align(["replica", "GPU", "layers", "weights", "KV room", "working", "sum", "left", "budget"], rows)


def device_map_lines(device_map: Mapping[str, int | str | None]) -> list[str]:
    """Return `model.layers.0-10: cuda:0`, a line for every run of layers in one place; `""` in the map is the whole
    model.

    >>> device_map_lines({"embed": 0, "layers.0": 0, "layers.1": 0, "layers.2": 1, "head": "cpu"})
    ['embed: cuda:0', 'layers.0-1: cuda:0', 'layers.2: cuda:1', 'head: cpu']
    """
    runs: list[tuple[str, list[str], int | str | None]] = []  # what comes before the number, numbers, place
    for module, place in device_map.items():
        stem, _, number = module.rpartition(".")
        if not number.isdecimal():
            runs.append((module, [], place))
        elif runs and runs[-1][1] and (runs[-1][0], runs[-1][2]) == (stem, place):
            runs[-1][1].append(number)
        else:
            runs.append((stem, [number], place))
    return [
        f"{_module(stem, numbers)}: {f'cuda:{place}' if isinstance(place, int) else place}"
        for stem, numbers, place in runs
    ]


def _module(stem: str, numbers: Sequence[str]) -> str:
    if not numbers:
        return stem or "whole model"
    return f"{stem}.{numbers[0]}" + (f"-{numbers[-1]}" if len(numbers) > 1 else "")


def align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Make columns as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
