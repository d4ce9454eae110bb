"""Searches are planned for as what they are: many short sequences in large steps, on as many GPUs as there are."""

from __future__ import annotations

import contextlib
import random
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.working_memory import logits_bytes, rows_of_a_step, working_bytes
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.multi_gpu.planning import plan_for
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.replicas.layout import planned_layout
from evaluation.toolbench.inference.replicas.replica import Replica
from evaluation.toolbench.retrieval.beam_search import SearchRules
from evaluation.toolbench.retrieval.capacity import (
    GPU_OPTIONS,
    engine_options_of,
    queries_at_once,
    room_for,
    workload_of,
)
from evaluation.toolbench.retrieval.job import Item, RetrievalJob
from evaluation.toolbench.retrieval.search import PromptSearch, SearchThread
from tests.helpers.engine import VOCAB_SIZE, tiny_llama
from tests.helpers.placement import TOOLGEN_8B, gpu


def job(num_queries=600, num_thread="auto"):
    config = RunConfig.of(
        SimpleNamespace(backbone_model="toolgen_atomic", model_path="model", num_replicas="auto", num_thread=num_thread)
    )
    items = {str(number): Item(tuple(range(80 + number % 60)), None) for number in range(num_queries)}
    return RetrievalJob(config, SearchRules(5), items, {}, Needs("model", 175_241, 203, {}, ((), 5)))


def plan(*total_gib, num_queries=600):
    cards = [gpu(index, size) for index, size in enumerate(total_gib)]
    return plan_for(TOOLGEN_8B, cards, workload=workload_of(job(num_queries)))


def test_cards_that_conversations_have_to_share_get_a_replica_each():
    cards = [gpu(index, 24) for index in range(3)]
    assert [replica.gpus for replica in plan_for(TOOLGEN_8B, cards, workload=Workload()).replicas] == [(0, 1, 2)]
    found = plan(24, 24, 24)
    assert [replica.gpus for replica in found.replicas] == [(0,), (1,), (2,)]
    assert "3 replicas of one GPU each" in found.reasons


def test_few_queries_have_as_many_sequences_in_a_step_as_many():
    few, many = (plan(80, 80, num_queries=number).replicas for number in (8, 800))
    assert [replica.max_running for replica in few] == [replica.max_running for replica in many] == [320, 320]


def test_what_is_said_of_a_plan_speaks_of_sequences_and_promises_no_rate_of_conversations():
    reasons = plan(24, 24, 24).reasons
    assert "sequences at once" in reasons
    assert "% of the throughput that is predicted for the choice" in reasons
    assert not any(word in reasons for word in ("conversation", "queries/min", "tokens/s", "APIs"))


def test_what_does_not_fit_is_said_of_sequences():
    with pytest.raises(PlacementError, match="one sequence of 203 tokens"):
        plan(12)


@given(st.lists(st.integers(9, 48), min_size=1, max_size=4), st.sampled_from(["auto", 4]))
def test_a_step_needs_no_more_memory_than_the_plan_has_for_it(sizes, num_thread):
    try:
        found = plan(*sizes)
    except PlacementError:
        return
    for spec in planned_layout(found, 2**40).replicas:
        options = engine_options_of(job(num_thread=num_thread), Replica(spec))
        num_gpus = len(spec.placement.shards)
        running = options["max_running"]
        limits = Limits.of(num_gpus, max_running=running, max_prefill_tokens=None, step_tokens=options["step_tokens"])
        everywhere = working_bytes(TOOLGEN_8B.activation_bytes_per_token, limits, num_gpus)
        at_head = logits_bytes(rows_of_a_step(running, num_gpus, limits), TOOLGEN_8B.vocab_size)
        assert all(shard.working_bytes >= everywhere for shard in spec.placement.shards)
        assert spec.placement.shards[-1].working_bytes >= everywhere + at_head
        assert running >= 1
        assert options["max_length"] == 203


@pytest.mark.parametrize("depth", [1, 3])
def test_as_many_queries_at_once_as_there_is_room_for_keep_their_pages_until_they_are_over(depth):
    rng = random.Random(depth)
    tools = [[rng.randrange(6, VOCAB_SIZE) for _ in range(depth)] for _ in range(200)]
    trie, rules, running, num_pages = TokenTrie(tools, end_id=5), SearchRules(5, max_new_tokens=8), 80, 260
    at_once = room_for(16 * num_pages, running, 60, keeps_branches=depth > 1)
    assert 1 < at_once < 40
    sizes = {"num_pages": num_pages, "max_running": running, "step_tokens": 256, "max_length": 70}
    options = {**GPU_OPTIONS, **sizes}
    free = threading.Semaphore(at_once)
    with contextlib.closing(PagedEngine(tiny_llama(), **options)) as engine:
        searches = SearchThread(engine)
        found = []
        for number in range(80):
            prompt = [rng.randrange(6, VOCAB_SIZE) for _ in range(60)]
            free.acquire()
            found.append(searches.start(PromptSearch(str(number), prompt, rules, (5, 10), trie)))
            found[-1].add_done_callback(lambda _: free.release())
        assert all(each.result()[5] for each in found)
        searches.close()
        assert (engine.counts().evictions, engine.counts().preemptions) == (0, 0)


def test_a_card_with_little_room_has_fewer_queries_at_once_and_never_none():
    [spec] = planned_layout(plan(12, 12), 2**40).replicas
    running, kv_tokens = spec.placement.max_running, spec.placement.kv_tokens
    assert 10 < room_for(kv_tokens, running, 110, keeps_branches=False) < 144
    assert room_for(100, 320, 110, keeps_branches=True) == 1


def test_a_replica_asks_its_engine_how_many_queries_there_is_room_for():
    [spec] = planned_layout(plan(12, 12), 2**40).replicas
    replica = Replica(spec)
    with contextlib.closing(PagedEngine(tiny_llama(), num_pages=700, page_size=16)) as engine:
        replica.watch.wrap(engine)
        running, mean = spec.placement.max_running, job().mean_prompt
        expected = room_for(16 * 700, running, mean, keeps_branches=True)  # a search without a trie is among them
        assert 1 < queries_at_once(job(), replica) == expected < 144
        assert queries_at_once(job(num_thread=7), replica) == 7
