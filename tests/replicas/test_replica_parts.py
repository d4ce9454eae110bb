"""The parts of a run over replicas, each alone: ledger, layout, limits, lock."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.Downstream_tasks.query_calls import QueryCalls
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.request import (
    CountsSteps,
    GenerationRequest,
    GenerationResult,
    HasKvCache,
    KvUse,
)
from evaluation.toolbench.inference.errors import (
    ApiError,
    EngineStoppedError,
    OutputError,
    PlacementError,
    StopRequested,
)
from evaluation.toolbench.inference.multi_gpu.placement import budgets_of, plan_placement
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.records.lock import LOCK_FILE, RunLock
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.handle import environment_of
from evaluation.toolbench.inference.replicas.layout import (
    ReplicaSpec,
    cpu_layout,
    planned_layout,
)
from evaluation.toolbench.inference.replicas.ledger import Ledger, share_of
from evaluation.toolbench.inference.replicas.limits import QueryClock, TimeIsUp, TimeLimitError, TimeLimits
from evaluation.toolbench.inference.replicas.meter import Meter
from evaluation.toolbench.inference.replicas.replica import Replica
from evaluation.toolbench.inference.replicas.watched_engine import Watch, WatchedEngine, watched_query
from tests.helpers.environment import FakeApi
from tests.helpers.placement import TOOLGEN_8B, gpu

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30


@given(st.data())
def test_a_query_is_always_in_one_place_and_never_tried_more_than_three_times(data):
    query_ids = [str(i) for i in range(data.draw(st.integers(1, 12)))]
    ledger, over, begun = Ledger.of(query_ids), [], dict.fromkeys(query_ids, 0)
    for _ in range(data.draw(st.integers(0, 120))):
        replica = data.draw(st.integers(0, 2))
        held = ledger.held_by(replica)
        action = data.draw(st.sampled_from(["take", "end", "die"]))
        if action == "take":
            query_id = ledger.take(replica)
            if query_id is not None:
                begun[query_id] += 1
        elif action == "end" and held:
            query_id = data.draw(st.sampled_from(held))
            assert ledger.end(replica, query_id)
            assert not ledger.end(replica, query_id)
            over.append(query_id)
        elif action == "die":
            over += [query_id for query_id in held if not ledger.give_back(replica, query_id)]
        in_flight = [query_id for each in range(3) for query_id in ledger.held_by(each)]
        assert sorted([*ledger.waiting, *in_flight, *over]) == sorted(query_ids)
        assert ledger.num_left == len(ledger.waiting) + len(in_flight)
    assert max(begun.values()) <= 3


@given(st.integers(1, 1000), st.integers(1, 16), st.integers(1, 128))
def test_shares_leave_nothing_over_and_nobody_idle(num_left, num_replicas, num_conversations):
    share = share_of(num_left, num_replicas, num_conversations)
    assert 1 <= share <= num_conversations
    assert share * num_replicas >= min(num_left, num_conversations)
    assert (share - 1) * num_replicas < num_left


def test_replicas_see_their_own_gpus_and_ask_for_the_room_that_was_planned():
    gpus = [gpu(index, 80) for index in range(3)]
    plan = plan_placement(TOOLGEN_8B, budgets_of(gpus), Workload(conversations=48))
    layout = planned_layout(plan, host_bytes=100 * GIB)
    assert [spec.visible_devices for spec in layout.replicas] == [gpu.uuid for gpu in gpus]
    assert [spec.gpus for spec in layout.replicas] == [("cuda:0",), ("cuda:1",), ("cuda:2",)]
    for spec, replica in zip(layout.replicas, plan.replicas, strict=True):
        assert spec.max_kv_bytes == replica.kv_tokens * plan.footprint.kv_bytes_per_token
        assert environment_of(spec, {"CUDA_VISIBLE_DEVICES": "0,1,2"}) == {
            "CUDA_VISIBLE_DEVICES": replica.visible_devices
        }
    assert layout.num_loading == 3
    assert planned_layout(plan, host_bytes=20 * GIB).num_loading == 1


def test_replicas_that_share_a_gpu_share_its_memory():
    plan = plan_placement(TOOLGEN_8B, budgets_of([gpu(0, 140)]), Workload(conversations=32), num_replicas=2)
    specs = planned_layout(plan, host_bytes=100 * GIB).replicas
    assert [spec.visible_devices for spec in specs] == [gpu(0, 140).uuid] * 2
    weights = plan.footprint.weight_bytes
    assert sum(spec.max_kv_bytes + weights for spec in specs) < 0.85 * 140 * GIB
    assert specs[0].max_kv_bytes == specs[1].max_kv_bytes > 16 * plan.footprint.kv_bytes_per_token * 8192


def test_on_the_cpu_cores_and_memory_are_divided():
    layout = cpu_layout(3, weight_bytes=GIB, host_bytes=12 * GIB, num_cores=8)
    for spec in layout.replicas:
        assert spec.max_kv_bytes == GIB
        assert environment_of(spec, {}) == {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2"}
        assert environment_of(spec, {"OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "1"
    assert cpu_layout(1, GIB, 2 * GIB, 8).is_in_parent


def test_more_replicas_than_the_memory_holds_are_refused_with_how_many_fit():
    with pytest.raises(PlacementError, match=r"--num_replicas 9: .* so 3 fit") as caught:
        cpu_layout(9, weight_bytes=2 * GIB, host_bytes=10 * GIB, num_cores=8)
    assert caught.value.details == {"num_replicas": 9, "fitting": 3}


def test_unasked_a_replica_takes_no_more_than_its_steps_hold():
    assert ReplicaSpec(0, ("cuda:0",)).most_conversations == 128
    assert ReplicaSpec(0).most_conversations == 32


class Engine:
    """Answers when it is told to."""

    vocab_size, max_length = 100, 1000

    def __init__(self, *, is_dead=False):
        self.futures = []
        self.is_dead = is_dead

    def submit(self, request):
        if self.is_dead:
            raise EngineStoppedError("the engine is closed")
        self.futures.append(Future())
        return self.futures[-1]


REQUEST = GenerationRequest([1, 2, 3], 5, TokenSet([0]))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (TimeLimits(generation_s=0.05), "a generation took longer than 0.05 s, the limit of --generation_timeout"),
        (TimeLimits(generation_s=9, step_s=0.05), "a step took longer than 0.05 s, the limit of --step_timeout"),
        (TimeLimits(step_s=9, query_s=0.05), "the query took longer than 0.05 s, the limit of --query_timeout"),
    ],
)
def test_a_generation_ends_with_the_tightest_limit_and_is_cancelled(limits, message):
    engine = Engine()
    with pytest.raises(TimeLimitError, match=message), watched_query(limits):
        WatchedEngine(engine, Meter()).generate(REQUEST)
    assert engine.futures[0].cancelled()


def test_a_step_gets_its_time_anew_and_the_query_does_not(monkeypatch):
    now = 100.0
    monkeypatch.setattr("evaluation.toolbench.inference.replicas.limits.time", SimpleNamespace(monotonic=lambda: now))
    with watched_query(TimeLimits(step_s=20, query_s=50)) as clock:
        for left in ((20, 10), (20, 10), (10, 0)):
            clock.on_chain_start(depth=0, inputs=[])
            assert clock.tightest()[0] == left[0]
            now += 10
            assert clock.tightest()[0] == left[1]
            now += 10
    with pytest.raises(TimeLimitError, match="--query_timeout"), watched_query(TimeLimits(query_s=0)) as clock:
        clock.on_chain_start(depth=0, inputs=[])


def test_tokens_and_calls_are_counted_and_finish_is_no_call():
    engine, meter = Engine(), Meter()
    waiting = threading.Thread(target=WatchedEngine(engine, meter).generate, args=(REQUEST,))
    waiting.start()
    while not engine.futures:
        time.sleep(0.001)
    engine.futures[0].set_result(GenerationResult((7, 8, 0), "stop"))
    waiting.join()
    calls = QueryCalls(FakeApi(), QueryClock(TimeLimits()), meter)
    for name, status in [("forecast", 0), ("forecast", 12), ("Finish", 3), ("Finish", 2)]:
        calls.on_tool_start(depth=0, tool_name=name, tool_input="{}")
        calls.on_tool_end(depth=0, output="", status=status)
    beat = meter.beat()
    assert (beat.progress, beat.num_tokens, beat.api_calls, beat.api_errors) == (3, 3, 2, 1)
    assert beat.calls_in_flight == 0
    calls.on_tool_start(depth=0, tool_name="forecast", tool_input="{}")
    assert meter.beat().calls_in_flight == 1


class NobodyThere:
    """An API server that is away: a call waits as long as it may, and raises."""

    def call(self, *, timeout_s, **request):
        time.sleep(min(timeout_s, 0.2))
        raise ApiError("could not be reached")


@pytest.mark.parametrize(("query_s", "error"), [(0.05, TimeIsUp), (60, ApiError)])
def test_a_call_to_nobody_ends_with_the_querys_time_and_is_no_call_in_flight_after_that(query_s, error):
    meter = Meter()
    calls = QueryCalls(NobodyThere(), QueryClock(TimeLimits(query_s=query_s)), meter)
    calls.on_tool_start(depth=0, tool_name="forecast", tool_input="{}")
    with pytest.raises(error):
        calls.call(category="", tool_name="", api_name="", tool_input="", strip="")
    beat = meter.beat()
    assert (beat.calls_in_flight, beat.api_calls, beat.api_errors) == (0, 1, 1)


def test_tokens_of_an_engine_that_counts_them_are_told_before_their_generation_ends():
    class Counting(Engine):
        def num_tokens(self):
            return 20 + len(self.futures)

    watch, engine = Watch(), Counting()
    future = watch.wrap(engine).submit(REQUEST)
    assert watch.meter.beat().num_tokens == 21
    future.set_result(GenerationResult((7, 8, 0), "stop"))
    assert watch.meter.beat().num_tokens == 21


def test_prompt_tokens_are_those_that_the_engine_has_read():
    class Reading(Engine):
        def num_prompt_tokens(self):
            return 11

    watch = Watch()
    assert watch.meter.beat().num_prompt_tokens == 0
    watch.wrap(Reading())
    assert watch.meter.beat().num_prompt_tokens == 11


def test_a_replica_compiles_from_when_its_engine_says_so_until_the_engine_is_there():
    told = []
    watch = Watch(lambda: told.append(True))
    assert not watch.meter.beat().is_compiling
    watch.begin_compiling()
    assert watch.meter.beat().is_compiling
    watch.wrap(Engine())
    assert not watch.meter.beat().is_compiling
    assert told == [True]


def test_an_abandoned_engine_lets_go_of_those_who_wait():
    engine, ended = Engine(), []
    watched = WatchedEngine(engine, Meter())

    def wait():
        try:
            watched.generate(REQUEST)
        except StopRequested:
            ended.append(True)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    watched.abandon()
    for thread in threads:
        thread.join(20)
    assert ended == [True] * 3


def test_a_stopped_engine_is_the_end_of_its_replica_and_a_time_limit_is_not():
    watch = Watch()
    wrapped = watch.wrap(Engine(is_dead=True))
    with pytest.raises(EngineStoppedError) as caught:
        wrapped.generate(REQUEST)
    assert watch.is_broken(caught.value)
    assert not watch.is_broken(TimeLimitError("a generation took longer"))
    assert not watch.is_broken(KeyError("x"))


class RoomyEngine(Engine):
    """An engine with a KV cache and steps to tell of, as the paged one has."""

    def num_steps(self):
        return 7

    def kv_tokens(self):
        return 5000

    def kv_use(self):
        return KvUse(used_tokens=0, repeated_preemptions=0)


def test_a_replica_asks_its_engine_how_far_it_is_and_how_much_it_holds():
    replica, plain = Replica(ReplicaSpec(0)), Replica(ReplicaSpec(1))
    replica.watch.wrap(RoomyEngine())
    plain.watch.wrap(Engine())
    assert replica.watch.sees_steps
    assert replica.watch.meter.beat().progress == 7
    assert replica.watch.kv_tokens() == 5000
    assert replica.watch.meter.beat().num_conversations == 0  # a number that was asked for stays what it is
    first = replica.admit_by_use(8192)
    assert 5000 // RoomyEngine.max_length <= first <= 5000 // (RoomyEngine.max_length // 4)
    assert replica.watch.meter.beat().num_conversations == first
    assert not plain.watch.sees_steps
    assert plain.admit_by_use(8192) is None
    assert issubclass(PagedEngine, CountsSteps)
    assert issubclass(PagedEngine, HasKvCache)


def test_our_own_errors_cross_processes_with_their_type_and_others_with_their_name():
    ours = Problem.of(OutputError("the disk is full", path="x", errno=28, odd=object()))
    assert isinstance(ours.as_error(), OutputError)
    assert ours.as_error().details == {"path": "x", "errno": 28}
    assert str(Problem.of(KeyError("x")).as_error()) == "KeyError: 'x'"


def test_a_folder_in_use_is_refused_with_who_uses_it_and_free_once_that_is_killed(tmp_path):
    code = f"""
import time; from pathlib import Path
from evaluation.toolbench.inference.records.lock import RunLock
with RunLock(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(OutputError, match=rf"is in use by another run \(process {holder.pid} on .*, since 2"):
        RunLock(tmp_path).acquire()
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()  # stale
    with RunLock(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rubbish", ["", "{", '{"pid": "x"}', "[]"])
def test_what_is_written_in_a_lock_does_not_matter(tmp_path, rubbish):
    (tmp_path / LOCK_FILE).write_text(rubbish)
    with RunLock(tmp_path), pytest.raises(OutputError, match="in use by another run"):
        RunLock(tmp_path).acquire()


def test_only_one_of_many_gets_the_lock_however_they_come_and_go(tmp_path):
    inside, most, taken = 0, 0, 0
    guard = threading.Lock()

    def come_and_go():
        nonlocal inside, most, taken
        for _ in range(200):
            lock = RunLock(tmp_path)
            try:
                lock.acquire()
            except OutputError:
                continue
            with guard:
                inside, taken = inside + 1, taken + 1
                most = max(most, inside)
            with guard:
                inside -= 1
            lock.release()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken > 0
    assert most == 1
