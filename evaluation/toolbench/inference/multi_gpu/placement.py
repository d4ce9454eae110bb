"""Decides where a run places its model: how many replicas, each on which GPUs, and why.

Pure: footprint, GPUs with their budgets and the workload in; a `Placement` or a PlacementError out. Of all
ways to group the GPUs, the one with the highest predicted throughput for the conversations asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.multi_gpu.footprint import Footprint
from evaluation.toolbench.inference.multi_gpu.grouping import best_groups
from evaluation.toolbench.inference.multi_gpu.memory_map import max_memory_of
from evaluation.toolbench.inference.multi_gpu.misfit import describe_misfit
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.reasons import describe_choice
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, PlannedReplica, Workload
from evaluation.toolbench.inference.multi_gpu.units import parse_size


@dataclass(frozen=True)
class Placement:
    """Says what will run where; `reasons` is a paragraph for people."""

    footprint: Footprint
    workload: Workload
    replicas: tuple[PlannedReplica, ...]
    skipped: tuple[GpuBudget, ...]  # that stay unused
    tokens_per_s: float  # predicted
    reasons: str

    @property
    def conversations(self) -> int:
        """Return how many conversations are expected to run at once, over all replicas; never more than queries."""
        return self.workload.at_once(self.replicas)

    @property
    def queries_per_min(self) -> float:
        """Return the predicted rate, without what calls to APIs take."""
        return self.workload.expected.queries_per_min(self.tokens_per_s)


def budgets_of(
    visible: Sequence[Gpu], max_gpu_memory: str | Mapping[int, str] | None = None, num_gpus: int | None = None
) -> list[GpuBudget]:
    """Returns the budgets of the visible GPUs as the memory map gives them; the errors of `build_max_memory`.

    `num_gpus` counts when `max_gpu_memory` names GPUs one by one; otherwise every GPU gets a budget. What others
    hold cannot be used, whatever `max_gpu_memory` says.
    """
    names_each = isinstance(max_gpu_memory, Mapping) or (isinstance(max_gpu_memory, str) and "," in max_gpu_memory)
    count = len(visible) if num_gpus is None or (not names_each and num_gpus <= len(visible)) else num_gpus
    if isinstance(max_gpu_memory, Mapping) and num_gpus is None:
        count = len(max_gpu_memory)
    return capped_budgets(visible, max_memory_of(visible, count, max_gpu_memory))


def capped_budgets(visible: Sequence[Gpu], max_memory: Mapping[int, str]) -> list[GpuBudget]:
    """Returns the budgets of a memory map, as far as the memory is free."""
    return [
        GpuBudget(visible[index], min(parse_size(text) if text[0] != "0" else 0, visible[index].free_bytes))
        for index, text in max_memory.items()
    ]


def plan_placement(
    footprint: Footprint,
    budgets: Sequence[GpuBudget],
    workload: Workload | None = None,
    *,
    num_gpus: int | None = None,
    num_replicas: int | None = None,
    cpu_bytes: int = 0,
) -> Placement:
    """Returns the best placement of `footprint` over `budgets`, of which at most `num_gpus` are used.

    `num_replicas` None leaves their number to the prediction; more replicas than GPUs share them evenly.
    `cpu_bytes` above 0 lets blocks that do not fit lie on the CPU. Busy GPUs are left out as long as the
    others suffice. PlacementError, with the numbers and what would help, when not even one conversation
    of `workload.max_tokens` fits.
    """
    workload = workload or Workload()
    if num_gpus is not None and num_gpus > len(budgets):
        raise PlacementError(f"num_gpus={num_gpus}, but there are {len(budgets)} to plan for", visible=len(budgets))
    for candidates in _candidates(budgets, num_gpus):
        most_useful = min(len(candidates), workload.queries)
        by_count = {
            count: found
            for count in ([num_replicas] if num_replicas else range(1, most_useful + 1))
            if (found := best_groups(footprint, candidates, workload, count))
        }
        if by_count:
            return _placement(footprint, workload, budgets, by_count, num_gpus)
    if cpu_bytes:
        spilled = best_groups(footprint, candidates, workload, num_replicas or 1, cpu_bytes=cpu_bytes)
        if spilled:
            return _placement(footprint, workload, budgets, {len(spilled): spilled}, num_gpus)
    raise PlacementError(
        describe_misfit(footprint, candidates, workload, num_replicas or 1, fits=_fits, offloads=cpu_bytes > 0),
        footprint=footprint,
        budgets={budget.index: budget.num_bytes for budget in candidates},
    )


def _candidates(budgets: Sequence[GpuBudget], num_gpus: int | None) -> list[list[GpuBudget]]:
    """Return choices of GPUs, the one to try first in front: idle ones, then those with the most memory."""
    count = num_gpus or len(budgets)
    idle = [budget for budget in budgets if not budget.is_busy][:count]
    largest = sorted(budgets, key=lambda budget: -budget.num_bytes)[:count]
    return [*([idle] if idle else []), sorted(largest, key=lambda budget: budget.index)]


def _fits(footprint: Footprint, budgets: Sequence[GpuBudget], workload: Workload, num_replicas: int) -> bool:
    return best_groups(footprint, budgets, workload, num_replicas) is not None


def _tokens_per_s(replicas: Sequence[PlannedReplica], offered: float) -> float:
    return sum(replica.tokens_per_s(offered) for replica in replicas)


def _placement(
    footprint: Footprint,
    workload: Workload,
    budgets: Sequence[GpuBudget],
    by_count: Mapping[int, tuple[PlannedReplica, ...]],
    num_gpus: int | None,
) -> Placement:
    predicted = {count: _tokens_per_s(found, workload.offered(count)) for count, found in by_count.items()}
    count = max(predicted, key=lambda each: predicted[each])
    replicas = tuple(sorted(by_count[count], key=lambda replica: replica.gpus))
    used = {index for replica in replicas for index in replica.gpus}
    skipped = tuple(budget for budget in budgets if budget.index not in used)
    others = {each: (by_count[each], predicted[each]) for each in by_count if each != count}
    reasons = describe_choice(footprint, workload, (replicas, predicted[count]), others, skipped, num_gpus)
    return Placement(footprint, workload, replicas, skipped, predicted[count], reasons)
