"""Decides which GPUs work together: of the ways to divide them, the one with the highest predicted throughput.

Pure: sizes, budgets and the workload in, replicas or None out. GPUs may stay unused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.toolbench.inference.multi_gpu.fitting import fit_replica
from evaluation.toolbench.inference.multi_gpu.footprint import Footprint
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, PlannedReplica, Workload

_NO_GAIN = 1e-9  # relative: rounding, not a reason to take one more GPU
_MOST_TO_TRY = 8  # GPUs of which every division is looked at

_Rate = Callable[[Sequence[GpuBudget]], float | None]  # of a group; None: too small


@dataclass(frozen=True)
class _Groups:
    """Lists GPUs by replica, and the throughput of all replicas."""

    tokens_per_s: float = 0.0
    groups: tuple[tuple[GpuBudget, ...], ...] = ()

    def with_group(self, group: tuple[GpuBudget, ...], tokens_per_s: float) -> _Groups:
        return _Groups(self.tokens_per_s + tokens_per_s, (*self.groups, group))


def best_groups(
    footprint: Footprint, budgets: Sequence[GpuBudget], workload: Workload, num_replicas: int, *, cpu_bytes: int = 0
) -> tuple[PlannedReplica, ...] | None:
    """Return `num_replicas` replicas over `budgets`; None: they do not fit.

    With `cpu_bytes`, blocks that do not fit may lie on the CPU.
    """
    shares = _shares(budgets, num_replicas)
    offered = workload.offered(num_replicas)
    rates: dict[tuple[tuple[int, float, float], ...], float | None] = {}  # of groups that differ in nothing but names

    def fit(group: Sequence[GpuBudget]) -> PlannedReplica | None:
        memory = cpu_bytes // num_replicas
        return fit_replica(footprint, group, workload, conversations=math.ceil(offered), cpu_bytes=memory)

    def rate(group: Sequence[GpuBudget]) -> float | None:
        key = tuple((budget.num_bytes, budget.bandwidth, budget.flops) for budget in group)
        if key not in rates:
            replica = fit(group)
            rates[key] = replica.tokens_per_s(offered) if replica else None
        return rates[key]

    best = _best_runs(shares, num_replicas, len(footprint.blocks), rate)
    has_room = num_replicas * footprint.weight_bytes <= sum(share.num_bytes for share in shares)
    if best is None and num_replicas > 1 and has_room and len(shares) <= _MOST_TO_TRY:
        best = _best_of_all(shares, num_replicas, rate)
    if best is None:
        return None
    return tuple(replica for group in best.groups if (replica := fit(group)) is not None)


def _shares(budgets: Sequence[GpuBudget], num_replicas: int) -> list[GpuBudget]:
    """Return the GPUs, largest budget first; with more replicas than GPUs, equal shares of them, one for each
    replica.
    """
    largest_first = sorted(budgets, key=lambda budget: (-budget.num_bytes, budget.index))
    if num_replicas <= len(budgets):
        return largest_first
    sharers = [num_replicas // len(budgets) + (i < num_replicas % len(budgets)) for i in range(len(budgets))]
    shares = [
        GpuBudget(budget.gpu, budget.num_bytes // count, share=count)
        for budget, count in zip(largest_first, sharers, strict=True)
        for _ in range(count)
    ]
    return sorted(shares, key=lambda budget: (-budget.num_bytes, budget.index))


def _best_runs(shares: Sequence[GpuBudget], num_replicas: int, most_gpus: int, rate: _Rate) -> _Groups | None:
    """Find groups that are runs of `shares`: equals stay together, a large card serves alone what small ones share.

    By dynamic programming over (replicas so far, GPUs so far).
    """
    best: list[_Groups | None] = [_Groups()] * (len(shares) + 1)  # over the first GPUs
    for _ in range(num_replicas):
        extended: list[_Groups | None] = [None]
        for end in range(1, len(shares) + 1):
            chosen = extended[-1]  # which leaves the last GPU unused, and is kept unless another is better
            for start in range(max(0, end - most_gpus), end):
                chosen = _better(chosen, best[start], _by_index(shares[start:end]), rate)
            extended.append(chosen)
        best = extended
    return best[-1]


def _best_of_all(shares: Sequence[GpuBudget], num_replicas: int, rate: _Rate) -> _Groups | None:
    """Find the best groups of any GPUs, by dynamic programming over the sets of GPUs in use (as bits): for few GPUs."""
    everything = (1 << len(shares)) - 1
    best: dict[int, _Groups] = {0: _Groups()}
    for _ in range(num_replicas):
        extended: dict[int, _Groups] = {}
        for used, previous in best.items():
            free = group = everything & ~used
            while group:
                members = _by_index([share for bit, share in enumerate(shares) if group >> bit & 1])
                chosen = _better(extended.get(used | group), previous, members, rate)
                if chosen is not None:
                    extended[used | group] = chosen
                group = (group - 1) & free
        best = extended
    return max(best.values(), key=lambda groups: groups.tokens_per_s, default=None)


def _better(
    chosen: _Groups | None, previous: _Groups | None, group: tuple[GpuBudget, ...], rate: _Rate
) -> _Groups | None:
    """Return `chosen`, or `previous` with `group` as one more replica where that does more."""
    group_rate = rate(group) if previous is not None else None
    if previous is None or group_rate is None:
        return chosen
    if chosen is None or previous.tokens_per_s + group_rate > chosen.tokens_per_s * (1 + _NO_GAIN):
        return previous.with_group(group, group_rate)
    return chosen


def _by_index(group: Sequence[GpuBudget]) -> tuple[GpuBudget, ...]:
    return tuple(sorted(group, key=lambda budget: budget.index))
