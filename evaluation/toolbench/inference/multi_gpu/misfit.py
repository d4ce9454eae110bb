"""Says why a model does not fit, GPU by GPU, and what would make it fit: each suggestion was tried on paper."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluation.toolbench.inference.multi_gpu.dtypes import keep_fp8
from evaluation.toolbench.inference.multi_gpu.fitting import fit_replica, logits_bytes, working_bytes
from evaluation.toolbench.inference.multi_gpu.footprint import Footprint
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.memory_map import default_budget
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, Workload
from evaluation.toolbench.inference.multi_gpu.units import gib

_Fits = Callable[[Footprint, Sequence[GpuBudget], Workload, int], bool]  # whether this many replicas fit on these GPUs

_MOST_GPUS_ADDED = 8
_SHORTEST_USEFUL = 1024  # tokens of a conversation: system prompt, question and a few steps


def fits_once(footprint: Footprint, budgets: Sequence[GpuBudget], workload: Workload, num_replicas: int = 1) -> bool:
    """Return whether one replica over all of `budgets` holds a conversation."""
    return num_replicas == 1 and fit_replica(footprint, budgets, workload, conversations=1) is not None


def describe_misfit(
    footprint: Footprint,
    budgets: Sequence[GpuBudget],
    workload: Workload,
    num_replicas: int,
    fits: _Fits = fits_once,
    *,
    offloads: bool = False,
) -> str:
    """Return one line: what is needed, what each GPU offers, what is missing, what to do.

    `fits` tries the suggestions. `offloads` says that layers may lie on the CPU already.
    """
    kv_bytes = footprint.kv_bytes_per_token * workload.max_tokens
    share = -(-len(budgets) // num_replicas)  # of the GPUs
    working = max(len(budgets), num_replicas) * working_bytes(footprint, workload, 1, share)
    working += num_replicas * logits_bytes(footprint, workload, 1, share)
    needed = num_replicas * (footprint.weight_bytes + kv_bytes) + working
    offered = sum(budget.num_bytes for budget in budgets)
    who = footprint.model if num_replicas == 1 else f"{num_replicas} replicas of {footprint.model}"
    shortage = (
        f"{gib(needed - offered)} are missing"
        if needed > offered
        else "that is enough in sum, but layers cannot be split"
    )
    remedies = _remedies(footprint, budgets, workload, num_replicas, fits)
    last = "a larger GPU or more free main memory" if offloads else "layers on the CPU, slowly (--cpu_offloading)"
    return (
        f"{who} ({footprint.formats}) {'does' if num_replicas == 1 else 'do'} not fit: weights "
        f"{gib(footprint.weight_bytes)}, KV cache {gib(kv_bytes)} ({_longest(workload)}) "
        f"and working room {gib(working)} make {gib(needed)}{' in all' if num_replicas > 1 else ''}; "
        f"{'; '.join(map(_offer, budgets))}; {shortage}. "
        f"What would help: {', or '.join([*remedies, last])}."
    )


def _longest(workload: Workload) -> str:
    return "one token" if workload.max_tokens == 1 else f"one {workload.noun} of {workload.max_tokens:,} tokens"


def _offer(budget: GpuBudget) -> str:
    held = f", {budget.gpu.held_by}" if budget.gpu.processes else ""
    return (
        f"GPU {budget.index} ({budget.gpu.name}) offers {gib(budget.num_bytes)} of its "
        f"{gib(budget.gpu.total_bytes)} ({gib(budget.gpu.free_bytes)} free{held})"
    )


def _remedies(
    footprint: Footprint, budgets: Sequence[GpuBudget], workload: Workload, num_replicas: int, fits: _Fits
) -> list[str]:
    remedies = []
    fewer = next((n for n in range(num_replicas - 1, 0, -1) if fits(footprint, budgets, workload, n)), 0)
    if fewer:
        remedies.append(f"fewer replicas: {fewer} {'fits' if fewer == 1 else 'fit'} (--num_replicas {fewer} or auto)")
    all_free = [replace(budget, num_bytes=default_budget(budget.gpu.free_bytes)) for budget in budgets]
    if any(mine.num_bytes < free.num_bytes for mine, free in zip(budgets, all_free, strict=True)) and fits(
        footprint, all_free, workload, num_replicas
    ):
        remedies.append("a larger --max_gpu_memory")
    unheld = [_without_holders(budget) for budget in budgets]
    held = [mine.index for mine, other in zip(budgets, unheld, strict=True) if mine.num_bytes < other.num_bytes]
    if held and fits(footprint, unheld, workload, num_replicas):
        remedies.append(f"ending what holds GPU {', '.join(map(str, held))}")
    if footprint.dtype == "float32":
        halved = replace(
            footprint,
            blocks=tuple(
                replace(block, weight_bytes=block.weight_bytes // 2, kv_bytes_per_token=block.kv_bytes_per_token // 2)
                for block in footprint.blocks
            ),
        )
        if fits(halved, budgets, workload, num_replicas):
            remedies.append("--dtype bfloat16")
    if footprint.weights == AUTO and footprint.dtype != "float32":
        weights = "fp8" if keep_fp8(budget.gpu for budget in budgets) else "int8"
        if fits(_in_eight_bits(footprint, weights), budgets, workload, num_replicas):
            remedies.append(f"weights in 8 bits (--weights {weights})")
    shorter = _longest_that_fits(footprint, budgets, workload, num_replicas, fits)
    if shorter >= _SHORTEST_USEFUL:
        remedies.append(f"{workload.noun}s of at most {shorter:,} tokens")
    extra = max(budgets, key=lambda budget: budget.num_bytes)
    for count in range(1, _MOST_GPUS_ADDED + 1):
        if fits(footprint, [*budgets, *[extra] * count], workload, num_replicas):
            more = "one more GPU" if count == 1 else f"{count} more GPUs"
            remedies.append(f"{more} like GPU {extra.index}")
            break
    return remedies


def _in_eight_bits(footprint: Footprint, weights: str) -> Footprint:
    """Halve the layers; two of them in `dtype` are more than int8 needs to unpack weights."""
    layers = [block.weight_bytes for block in footprint.blocks if block.is_layer]
    return replace(
        footprint,
        weights=weights,
        unpacked_bytes=2 * max(layers, default=0) if weights == "int8" else 0,
        blocks=tuple(
            replace(block, weight_bytes=block.weight_bytes // 2 if block.is_layer else block.weight_bytes)
            for block in footprint.blocks
        ),
    )


def _without_holders(budget: GpuBudget) -> GpuBudget:
    """Return the budget without the processes that hold memory; one below the usual is the user's, and stays."""
    gpu = budget.gpu
    if budget.num_bytes < default_budget(gpu.free_bytes):
        return budget
    listed = sum(process.used_bytes or 0 for process in gpu.processes)
    held_bytes = listed or gpu.used_bytes * budget.is_busy
    return replace(budget, num_bytes=max(budget.num_bytes, default_budget(gpu.free_bytes + held_bytes)))


def _longest_that_fits(
    footprint: Footprint, budgets: Sequence[GpuBudget], workload: Workload, num_replicas: int, fits: _Fits
) -> int:
    """Return the tokens of the longest conversation that fits, in steps of 256; 0 when none does.

    Where one fits, so does every shorter one.
    """
    lengths = range(workload.max_tokens // 256 * 256, 0, -256)
    first = bisect_left(
        lengths,
        True,
        key=lambda length: fits(footprint, budgets, replace(workload, max_tokens=length), num_replicas),
    )
    return lengths[first] if first < len(lengths) else 0
