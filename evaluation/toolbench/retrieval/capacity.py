"""Says how many searches a replica has at once, and how large its steps are, by the memory that there is."""

from __future__ import annotations

from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.backbones import engine_options
from evaluation.toolbench.inference.multi_gpu.expectation import Expectation
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.replicas.replica import Replica
from evaluation.toolbench.retrieval.job import WIDER, RetrievalJob

# Branches of many queries are in a step beside the prompts that are read: ten of one token each a query. Nobody waits
# for a single token here, so steps may be larger than those of conversations, and prompts fill each of them to a size
# that has a graph and no padding. Small pages, because every branch copies the one that its prompt ends in. On an H200
# 1,024 and 1,536 tokens gave 367 and 373 queries/s with pages of 64 tokens, 376 and 381 with pages of 16; on others
# 1,536 and 2,048 gave 364 and 384, 359 and 363.
GPU_OPTIONS: dict[str, Any] = {"max_running": 320, "step_tokens": 2048, "page_size": 16}
GPU_QUERIES = 144  # at once: each is in two steps of four, and more than a step's worth of prompts always waits
_CPU_QUERIES = 16
_UNBATCHED_QUERIES = 2  # with an engine that serves one request at a time: one, and the next in line


def workload_of(job: RetrievalJob) -> Workload:
    """Return what the searches are to a plan: short sequences, of which a card has room for all that a step takes."""
    mean = job.mean_prompt
    return Workload(
        GPU_OPTIONS["max_running"],
        job.needs.max_length,
        max(1, len(job.items)),
        Expectation(mean, mean, mean + 1, drawn_tokens=1 + WIDER, read_tokens=mean),
        step_tokens=GPU_OPTIONS["step_tokens"],
        are_conversations=False,
    )


def engine_options_of(job: RetrievalJob, replica: Replica) -> dict[str, Any]:
    """Return the arguments of the engine: steps as large as the plan found memory for, where there is a GPU."""
    found = engine_options(job.config, replica)
    if "max_running" not in found or not replica.spec.gpus:
        return found
    return {**found, **GPU_OPTIONS, "max_running": _most_running(replica), "max_length": job.needs.max_length}


def queries_at_once(job: RetrievalJob, replica: Replica) -> int:
    """Return how many queries a replica whose engine is loaded has at once: as many as its KV cache has room for."""
    config = job.config
    if config.num_thread != AUTO:
        return int(config.num_thread)
    if config.model.engine == "server":
        return GPU_QUERIES
    kv_tokens = replica.watch.kv_tokens()
    if kv_tokens is None:
        return _UNBATCHED_QUERIES
    if not replica.spec.gpus:
        return _CPU_QUERIES
    room = room_for(kv_tokens, _most_running(replica), job.mean_prompt, keeps_branches=job.keeps_branches)
    return min(GPU_QUERIES, room)


def room_for(kv_tokens: int, running: int, prompt_tokens: int, *, keeps_branches: bool) -> int:
    """Return how many queries of `prompt_tokens` each a KV cache has room for, at least one.

    All their prompts may be stored at the same time, and beside them two pages for each of `running` sequences in the
    steps: its own, and the one that the scheduler keeps free for it. Where branches are kept for the next token, those
    of two steps are. With more queries prompts lose their pages before their branches have run: 15,732 tokens and 313
    sequences had 9 to 10 queries a step with 51 to 96 of them at once, and 7 with 144, of which every third prompt
    was read twice.

    >>> room_for(15_732, 313, 110, keeps_branches=False), room_for(15_732, 313, 110, keeps_branches=True)
    (51, 13)
    """
    page_size: int = GPU_OPTIONS["page_size"]
    per_query = -(-prompt_tokens // page_size) * page_size + 2 * WIDER * page_size * keeps_branches
    return max(1, (kv_tokens - 2 * running * page_size) // per_query)


def _most_running(replica: Replica) -> int:
    """Return how many sequences the steps of a replica with GPUs may have."""
    return replica.spec.most_running(GPU_OPTIONS["max_running"])
