"""Fits a model onto the GPUs of one replica: which blocks go where, how many conversations fit beside them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from evaluation.toolbench.inference.engine.paged import working_memory
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.multi_gpu.footprint import Block, Footprint
from evaluation.toolbench.inference.multi_gpu.replica_plan import (
    GpuBudget,
    PlannedReplica,
    Shard,
    Workload,
    stage_costs,
)
from evaluation.toolbench.inference.multi_gpu.splits import evenly_in_order, fill_in_order, has_room, over_all_in_order
from evaluation.toolbench.inference.multi_gpu.throughput import product_costs

# Of the KV cache that fills the GPUs: less of it lets layers lie where they are fast, not only where there is room.
_KV_SHARES = (1.0, 0.95, 0.9, 0.8, 0.65, 0.5)


def fit_replica(
    footprint: Footprint,
    budgets: Sequence[GpuBudget],
    workload: Workload,
    *,
    conversations: int,
    cpu_bytes: int = 0,
    uses_all: bool = False,
) -> PlannedReplica | None:
    """Returns the replica over `budgets`, in their order, that answers fastest; None if the model does not fit.

    At least one conversation of `workload.max_tokens` fits, and as many as are expected to at once, at most
    `conversations`. With `cpu_bytes`, blocks that do not fit may lie on the CPU: as few as possible, the last ones.
    A GPU that would hold the others up stays empty, unless `uses_all` asks for every one.
    """
    for num_offloaded in range(len(footprint.blocks)):
        offloaded = footprint.blocks[len(footprint.blocks) - num_offloaded :]
        if sum(block.weight_bytes for block in offloaded) > cpu_bytes:
            return None
        fitted = _Fit(footprint, budgets, workload, conversations, offloaded).best(uses_all)
        if fitted is not None or not cpu_bytes:
            return fitted
    return None


def working_bytes(footprint: Footprint, workload: Workload, num_running: int, num_gpus: int) -> int:
    """Return the bytes that computing needs on each GPU beside weights and KV cache, as the engine reckons them."""
    limits = _limits(workload, num_running, num_gpus)
    activations = working_memory.working_bytes(footprint.activation_bytes_per_token, limits, num_gpus)
    return activations + footprint.unpacked_bytes


def logits_bytes(footprint: Footprint, workload: Workload, num_running: int, num_gpus: int) -> int:
    """Return the bytes that choosing the next tokens of `num_running` sequences needs where the head is."""
    rows = working_memory.rows_of_a_step(num_running, num_gpus, _limits(workload, num_running, num_gpus))
    return working_memory.logits_bytes(rows, footprint.vocab_size)


def _limits(workload: Workload, num_running: int, num_gpus: int) -> Limits:
    """Return the engine's limits, for conversations that may all be shorter than a step."""
    limits = Limits.of(num_gpus, max_running=num_running, max_prefill_tokens=None, step_tokens=workload.step_tokens)
    if workload.step_tokens is not None:
        return limits
    return replace(limits, max_prefill_tokens=min(limits.max_prefill_tokens, workload.max_tokens))


class _Fit:
    """Tries the ways to lay the blocks of one replica that are not `offloaded` over its GPUs."""

    def __init__(
        self,
        footprint: Footprint,
        budgets: Sequence[GpuBudget],
        workload: Workload,
        conversations: int,
        offloaded: Sequence[Block],
    ) -> None:
        self._footprint, self._budgets, self._workload = footprint, budgets, workload
        self._products = product_costs(footprint.weights, footprint.item_bytes)
        self._most_running = conversations
        self._offloaded = tuple(offloaded)
        self._blocks = footprint.blocks[: len(footprint.blocks) - len(offloaded)]

    def best(self, uses_all: bool) -> PlannedReplica | None:
        """Return, of several sizes of the KV cache with the fastest split for each, the one with the highest rate."""
        workload = self._workload
        if not self._budgets or not self._fits(1, workload.max_tokens):
            return None
        count = _largest(1, self._most_running, lambda n: self._fits(self._reserved(n), self._tokens_for(n)))
        running = self._reserved(count)
        most = sum(budget.num_bytes for budget in self._budgets) // max(self._footprint.kv_bytes_per_token, 1)
        brim = _largest(self._tokens_for(count), most, lambda tokens: self._fits(running, tokens))
        if self._offloaded or len(self._budgets) == 1:
            return self._replica(running, brim, fill_in_order(*self._needs(running, brim)))
        stored = min(brim, self._tokens_for(count))
        candidates = {max(workload.max_tokens, int(brim * share)) for share in _KV_SHARES}
        candidates |= {min(brim, stored), workload.max_tokens}
        seconds = [[self._seconds(block, budget, count) for block in self._blocks] for budget in self._budgets]
        replicas = []
        for tokens in sorted(candidates, reverse=True):
            ends = (over_all_in_order if uses_all else evenly_in_order)(*self._needs(running, tokens), seconds)
            kv_tokens = _largest(tokens, brim, lambda n, ends=ends: has_room(ends, *self._needs(running, n)))  # type: ignore[misc]
            replica = self._replica(running, kv_tokens, ends)
            if replica is not None:
                replicas.append(replica)
        return max(
            replicas,
            key=lambda each: (len(each.shards) * uses_all, each.tokens_per_s(self._most_running)),
            default=None,
        )

    def _tokens_for(self, count: int) -> int:
        return max(self._workload.max_tokens, count * self._workload.mean_tokens)

    def _reserved(self, count: int) -> int:
        """Return for how many sequences' logits memory is kept where `count` are expected.

        They may be nearly twice as many shorter ones.
        """
        return min(self._most_running, 2 * count - 1)

    def _fits(self, running: int, kv_tokens: int) -> bool:
        return fill_in_order(*self._needs(running, kv_tokens)) is not None

    def _needs(self, running: int, kv_tokens: int) -> tuple[list[int], list[int]]:
        """Return bytes of each block with its KV cache and logits, and what each GPU offers for them."""
        footprint, num_gpus = self._footprint, len(self._budgets)
        logits = logits_bytes(footprint, self._workload, running, num_gpus)
        costs = [
            block.weight_bytes + block.kv_bytes_per_token * kv_tokens + logits * block.makes_logits
            for block in self._blocks
        ]
        working = working_bytes(footprint, self._workload, running, num_gpus)
        room = [budget.num_bytes - working for budget in self._budgets]
        # Offloaded weights come to the first GPU one block at a time; their KV cache stays there.
        room[0] -= max((block.weight_bytes for block in self._offloaded), default=0)
        room[0] -= sum(block.kv_bytes_per_token for block in self._offloaded) * kv_tokens
        room[0] -= logits * any(block.makes_logits for block in self._offloaded)
        return costs, room

    def _seconds(self, block: Block, budget: GpuBudget, count: int) -> float:
        """Return the seconds that a step of one of as many batches as there are GPUs takes for `block`."""
        costs = stage_costs(budget, (block,), self._products)
        expected = self._workload.expected
        return costs.seconds(count / len(self._budgets), expected.read_per_drawn, self._workload.mean_tokens)

    def _replica(self, running: int, kv_tokens: int, ends: Sequence[int] | None) -> PlannedReplica | None:
        assert ends is not None  # it fits
        if self._offloaded and not ends[0]:
            return None  # what lies on the CPU is computed where the model begins, and that has to be the first GPU
        footprint, num_gpus = self._footprint, len(self._budgets)
        working = working_bytes(footprint, self._workload, running, num_gpus)
        logits = logits_bytes(footprint, self._workload, running, num_gpus)
        shards = []
        for budget, (start, end) in zip(self._budgets, pairwise([0, *ends]), strict=True):
            own = self._blocks[start:end]
            computed = (*own, *self._offloaded) if budget is self._budgets[0] else own
            if own:
                head_bytes = logits * any(block.makes_logits for block in computed)
                shards.append(Shard(budget, tuple(own), working + head_bytes))
        conversations = max(1, min(running, kv_tokens // self._workload.mean_tokens))
        return PlannedReplica(
            tuple(shards),
            conversations,
            running,
            kv_tokens,
            self._workload,
            self._offloaded,
            footprint.dtype,
            footprint.weights,
            footprint.kv_cache,
            self._products,
        )


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from `low`, which fits, to `high` that fits; fitting is monotonic."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
