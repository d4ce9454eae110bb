"""Says why a placement was chosen, in a paragraph with its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from evaluation.toolbench.inference.multi_gpu.footprint import Footprint
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, PlannedReplica, Workload
from evaluation.toolbench.inference.multi_gpu.units import gib

_OTHERS_NAMED = 2
_REPLICAS_NAMED = 4

_Prediction = tuple[Sequence[PlannedReplica], float]  # replicas, tokens per second


def describe_choice(
    footprint: Footprint,
    workload: Workload,
    chosen: _Prediction,
    others: Mapping[int, _Prediction],
    skipped: Sequence[GpuBudget],
    num_gpus: int | None = None,
) -> str:
    """Returns sentences on what was chosen, what the best other choice would give, and which GPUs stay unused.

    `num_gpus` is how many the user allows. Rates are predicted for conversations; of other work it is said how the
    choices compare.
    """
    replicas, tokens_per_s = chosen
    sentences = [
        f"{footprint.model} ({footprint.formats}) has {gib(footprint.weight_bytes)} of weights and needs "
        f"{gib(footprint.kv_bytes_per_token * workload.max_tokens)} of KV cache for a {workload.noun} of "
        f"{workload.max_tokens:,} tokens, the longest that there may be; those that run are expected to hold "
        f"{workload.mean_tokens:,} on average.",
        f"Chosen: {_replicas(replicas)}, with room for {_at_once(replicas, workload)}"
        f"{_prediction(tokens_per_s, workload)}.",
    ]
    best_others = sorted(others, key=lambda count: -others[count][1])[:_OTHERS_NAMED]
    if best_others:
        compared = "; ".join(
            f"{_replicas(others[count][0])}: {workload.at_once(others[count][0])} at once, "
            f"{_compared_rate(others[count][1], tokens_per_s, workload)}"
            for count in best_others
        )
        sentences.append(f"Instead, {compared}. {_contrast(replicas, others[best_others[0]][0])}.")
    offloaded = sum(block.weight_bytes for replica in replicas for block in replica.offloaded)
    if offloaded:
        sentences.append(
            f"{gib(offloaded)} of weights lie on the CPU, as --cpu_offloading allows; tokens will be slow."
        )
    sentences += [_skip(budget) for budget in skipped if budget.is_busy]
    idle = [budget.index for budget in skipped if not budget.is_busy]
    if idle:
        used = {index for replica in replicas for index in replica.gpus}
        why = f"num_gpus is {num_gpus}" if len(used) == num_gpus else "more would not raise the predicted throughput"
        sentences.append(f"{gpu_list(idle)} {'stays' if len(idle) == 1 else 'stay'} unused: {why}.")
    guessed = {shard.budget.card.name for replica in replicas for shard in replica.shards if shard.budget.is_guessed}
    if guessed:
        sentences.append(f"Of GPUs that the table of cards does not list, the speed is that of {_listed(guessed)}.")
    return " ".join(sentences)


def gpu_list(indices: Sequence[int]) -> str:
    """Returns CUDA indices as a sentence has them.

    >>> gpu_list([0]), gpu_list([0, 1, 2]), gpu_list([0, 2])
    ('GPU 0', 'GPUs 0-2', 'GPUs 0, 2')
    """
    if len(indices) == 1:
        return f"GPU {indices[0]}"
    if len(indices) > 2 and list(indices) == list(range(indices[0], indices[-1] + 1)):
        return f"GPUs {indices[0]}-{indices[-1]}"
    return f"GPUs {', '.join(map(str, indices))}"


def _replicas(replicas: Sequence[PlannedReplica]) -> str:
    sizes = Counter(len(replica.gpus) for replica in replicas)
    if len(replicas) == 1:
        return f"one replica {'on' if len(replicas[0].gpus) == 1 else 'over'} {gpu_list(replicas[0].gpus)}"
    gpus = sorted({index for replica in replicas for index in replica.gpus})
    if len(gpus) < len(replicas):
        return f"{len(replicas)} replicas that share {gpu_list(gpus)}"
    if len(sizes) == 1:
        return f"{len(replicas)} replicas of {_count(next(iter(sizes)))} each"
    if len(replicas) <= _REPLICAS_NAMED:
        return f"{len(replicas)} replicas ({'; '.join(gpu_list(replica.gpus) for replica in replicas)})"
    return f"{len(replicas)} replicas ({', '.join(f'{sizes[size]} of {_count(size)}' for size in sorted(sizes))})"


def _count(num_gpus: int) -> str:
    return "one GPU" if num_gpus == 1 else f"{num_gpus} GPUs"


def _at_once(replicas: Sequence[PlannedReplica], workload: Workload) -> str:
    room = sum(replica.kv_tokens for replica in replicas)
    running = workload.at_once(replicas)
    return f"{room:,} tokens of KV cache, that is {running} {workload.noun}{'s' * (running != 1)} at once"


def _prediction(tokens_per_s: float, workload: Workload) -> str:
    if not workload.are_conversations:
        return ""
    rate, duration = _rate(tokens_per_s, workload), _duration(tokens_per_s, workload)
    return f"; predicted {rate}, which is {duration} without what the APIs take"


def _compared_rate(tokens_per_s: float, chosen_tokens_per_s: float, workload: Workload) -> str:
    if workload.are_conversations:
        return _rate(tokens_per_s, workload)
    return f"{tokens_per_s / chosen_tokens_per_s:.0%} of the throughput that is predicted for the choice"


def _rate(tokens_per_s: float, workload: Workload) -> str:
    """Return both units: an engine's, and the one in which people count."""
    return f"{tokens_per_s:,.0f} tokens/s or {workload.expected.queries_per_min(tokens_per_s):,.0f} queries/min"


def _duration(tokens_per_s: float, workload: Workload) -> str:
    hours = workload.queries / workload.expected.queries_per_min(tokens_per_s) / 60
    time = (
        f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours >= 1 / 30 else "2 minutes or less"
    )
    return f"{time} for {workload.queries:,} queries"


def _listed(names: Collection[str]) -> str:
    return "cards like " + " and ".join(sorted(names))


def _contrast(chosen: Sequence[PlannedReplica], other: Sequence[PlannedReplica]) -> str:
    if len(other) > len(chosen):
        return "Every replica carries all the weights, which leaves less room for conversations"
    if any(len(replica.gpus) > 1 for replica in other):
        return "GPUs that share a model hand every step on to each other, which replicas need not"
    return "Fewer GPUs would work"


def _skip(budget: GpuBudget) -> str:
    holder = f" by {budget.gpu.held_by.split(' by ', 1)[-1]}" if budget.gpu.processes else ""
    held = f"{gib(budget.gpu.used_bytes)} of its {gib(budget.gpu.total_bytes)} are held{holder}"
    return f"GPU {budget.index} stays unused: busy, {held}."
