"""Says what a replica of a retrieval evaluation loads and does: one item is the search for one query."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from evaluation.toolbench.inference.replicas.replica import Replica, Work
from evaluation.toolbench.inference.toolgen.agent_parts import Serving, load_engine
from evaluation.toolbench.retrieval.capacity import engine_options_of, queries_at_once
from evaluation.toolbench.retrieval.job import WIDER, WIDTH, RetrievalJob
from evaluation.toolbench.retrieval.search import Found, PromptSearch, SearchThread

LOADER = f"{__name__}:load"


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
        yield Work(start_item, queries_at_once(job, replica), device_map)
    finally:
        searches.close()
        engine.close()
