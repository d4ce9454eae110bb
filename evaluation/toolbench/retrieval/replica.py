"""Says what a replica of a retrieval evaluation loads and does: one item is the search for one query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.backbones import engine_options
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.multi_gpu.expectation import Expectation
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.replicas.replica import Replica, Work
from evaluation.toolbench.inference.toolgen.agent_parts import Serving, load_engine
from evaluation.toolbench.retrieval.beam_search import SearchRules
from evaluation.toolbench.retrieval.search import Found, PromptSearch, SearchThread

LOADER = f"{__name__}:load"
WIDTH, WIDER = 5, 10  # of the beam searches for each query: ToolGen's, and the one for recall@10

# Branches of many queries are in a step beside the prompts that are read: ten of one token each a query. Nobody waits
# for a single token here, so steps may be larger than those of conversations, and prompts fill each of them to a size
# that has a graph and no padding. Small pages, because every branch copies the one that its prompt ends in. On an H200
# 1,024 and 1,536 tokens gave 367 and 373 queries/s with pages of 64 tokens, 376 and 381 with pages of 16; on others
# 1,536 and 2,048 gave 364 and 384, 359 and 363.
GPU_OPTIONS: dict[str, Any] = {"max_running": 320, "step_tokens": 2048, "page_size": 16}
GPU_QUERIES = 144  # at once: each is in two steps of four, and more than a step's worth of prompts always waits
_CPU_QUERIES = 16
_UNBATCHED_QUERIES = 2  # with an engine that serves one request at a time: one, and the next in line


@dataclass(frozen=True)
class Item:
    """Asks for one search: the prompt's ids, and which of the job's tries limits it (None: nothing does)."""

    prompt_ids: tuple[int, ...]
    trie: str | None


@dataclass(frozen=True)
class RetrievalJob:
    """Holds what every replica of an evaluation is told. Plain values: they cross process borders."""

    config: RunConfig
    rules: SearchRules
    items: Mapping[str, Item]
    tries: Mapping[str, TokenTrie]
    needs: Needs  # of a generation server; the longest sequence is what any engine is told


def workload_of(job: RetrievalJob) -> Workload:
    """Return what the searches are to a plan: short sequences, of which a card has room for all that a step takes."""
    lengths = [len(item.prompt_ids) for item in job.items.values()] or [1]
    mean = sum(lengths) // len(lengths)
    return Workload(
        GPU_OPTIONS["max_running"],
        job.needs.max_length,
        len(lengths),
        Expectation(mean, mean, mean + 1, drawn_tokens=1 + WIDER, read_tokens=mean),
        step_tokens=GPU_OPTIONS["step_tokens"],
        are_conversations=False,
    )


def engine_options_of(job: RetrievalJob, replica: Replica) -> dict[str, Any]:
    """Return the arguments of the engine: steps as large as the plan found memory for, where there is a GPU."""
    found = engine_options(job.config, replica)
    if "max_running" not in found or not replica.spec.gpus:
        return found
    most_running = replica.spec.most_running(GPU_OPTIONS["max_running"])
    return {**found, **GPU_OPTIONS, "max_running": most_running, "max_length": job.needs.max_length}


@contextmanager
def load(replica: Replica, job: RetrievalJob) -> Iterator[Work]:
    """Load the model on the GPUs that this process sees, and be ready to search for the items of `job`."""
    config = job.config
    replica.keep_to_share()
    model, engine = load_engine(
        config.model.model_path,
        lambda: job.needs,
        engine=config.model.engine,
        dtype=config.model.dtype,
        weights=config.model.weights,
        kv_cache=config.model.kv_cache,
        device="cuda",
        cpu_offloading=config.gpus.cpu_offloading,
        num_gpus=len(replica.spec.gpus),
        max_gpu_memory=config.gpus.max_gpu_memory,
        serving=Serving(replica.spec.placement, engine_options_of(job, replica), replica.watch.wrap),
    )

    searches = SearchThread(engine, replica.stop.is_set)

    def start_item(item_id: str) -> Future[Found]:
        item = job.items[item_id]
        trie = None if item.trie is None else job.tries[item.trie]
        return searches.start(PromptSearch(item_id, item.prompt_ids, job.rules, (WIDTH, WIDER), trie))

    device_map = dict(getattr(model, "hf_device_map", None) or {})
    try:
        yield Work(start_item, _queries_at_once(config, replica), device_map)
    finally:
        searches.close()
        engine.close()


def _queries_at_once(config: RunConfig, replica: Replica) -> int:
    if config.num_thread != AUTO:
        return int(config.num_thread)
    if config.model.engine == "server":
        return GPU_QUERIES
    if replica.watch.kv_tokens() is None:
        return _UNBATCHED_QUERIES
    return GPU_QUERIES if replica.spec.gpus else _CPU_QUERIES
