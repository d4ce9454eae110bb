"""Replicas are killed, hang, cannot load or meet a bad query, and no query is lost with them. Real processes."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import Pipe

import psutil
import pytest

from evaluation.toolbench.inference.errors import DataError, OutputError
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.replicas.handle import ProcessHandle
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
from evaluation.toolbench.inference.replicas.messages import Beat, Done, Dropped, Ended, Loaded, RunItem, Stop
from evaluation.toolbench.inference.replicas.supervisor import LOST, Patience, RunHooks, Supervisor
from tests.helpers.pipeline import ROOT, wait_for
from tests.helpers.replica import METHOD, Job, expected_answers, files_in, let_go, setup_of


class Run:
    """A run over light replicas in `folder`."""

    def __init__(self, folder, query_ids, *, num_replicas=3, num_conversations=2, load=(), **patience):
        self.answers = AnswerFolder(folder, METHOD)
        self.answers.prepare()
        self.query_ids = list(query_ids)
        self.left = [query_id for query_id in self.query_ids if self.answers.outcome(query_id) is None]
        self.ended = []  # (query id, type of its problem or None)
        self.begun = []  # handles of all starts
        self.stop = threading.Event()
        self.results = {}  # query id -> what came back for it
        self.messages = {}  # query id -> why it failed
        self._job = Job(str(folder), num_conversations, dict(load))
        layout = RunLayout(tuple(map(ReplicaSpec, range(num_replicas))), num_loading=num_replicas)
        hooks = RunHooks(
            start=self._start,
            done=self._note_done,
            failed=self._note_failure,
            is_done=lambda query_id: self.answers.outcome(query_id) is not None,
        )
        self.supervisor = Supervisor(self.left, layout, hooks, Patience(**{"replica_s": 60.0, **patience}))

    def _start(self, spec):
        self.begun.append(ProcessHandle(setup_of(spec, self._job)))
        return self.begun[-1]

    def _note_failure(self, query_id, problem):
        self.ended.append((query_id, problem.type))
        self.messages[query_id] = problem.message

    def _note_done(self, query_id, result):
        self.ended.append((query_id, None))
        self.results[query_id] = result

    def go(self):
        self.supervisor.run(self.stop)
        return self

    @property
    def failed(self):
        return {query_id: problem for query_id, problem in self.ended if problem}

    def left_over(self):
        """Processes that should not be there any more."""
        return [handle.pid for handle in self.begun if psutil.pid_exists(handle.pid)]


@contextmanager
def running(run):
    """`run` goes on beside the block, and is over at its end."""
    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(run.go)
        try:
            yield
        except BaseException:
            run.stop.set()
            raise
        over.result()


def numbers(count):
    return [str(i) for i in range(count)]


def test_failures_that_cannot_be_recorded_end_the_run_once_what_is_in_flight_has_ended(tmp_path):
    run = Run(tmp_path, ["wrong", *numbers(12)], num_conversations=4)

    def note_on_a_full_disk(query_id, problem):
        raise OutputError("the disk is full", path="failures.json")

    run.supervisor._hooks = dataclasses.replace(run.supervisor._hooks, failed=note_on_a_full_disk)
    with pytest.raises(OutputError, match="disk is full"):
        run.go()
    assert all(status.in_flight == 0 for status in run.supervisor.statuses())
    assert not list(tmp_path.glob(".*.part"))
    assert run.left_over() == []


def test_every_query_is_answered_once_and_no_process_is_left(tmp_path):
    run = Run(tmp_path, numbers(40)).go()
    assert sorted(run.ended) == sorted((query_id, None) for query_id in numbers(40))
    assert files_in(tmp_path) == expected_answers(numbers(40))
    assert run.results == {query_id: f"answer {query_id}" for query_id in numbers(40)}
    assert len(run.begun) == 3
    assert run.left_over() == []
    statuses = run.supervisor.statuses()
    assert [status.state for status in statuses] == ["ended"] * 3
    assert sum(status.num_tokens for status in statuses) == 40 * 15


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(6, 20))])
def test_killed_replicas_lose_nothing(tmp_path, seed):
    """Replicas die at random moments, while they start, run and end; what is over after three tries runs again."""
    rng, query_ids, over = random.Random(seed), numbers(300), threading.Event()
    run = Run(tmp_path, query_ids)
    num_kills = 0

    def kill_now_and_then():
        nonlocal num_kills
        while not over.wait(rng.uniform(0.02, 0.4)):
            alive = [handle for handle in run.begun if handle.ended() is None]
            if alive:
                os.kill(rng.choice(alive).pid, signal.SIGKILL)
                num_kills += 1

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        run.go()
    finally:
        over.set()
        killer.join()
    assert num_kills > 0
    assert run.left_over() == []
    assert len({query_id for query_id, _ in run.ended}) == len(run.ended)  # nothing is reported twice
    assert set(run.failed.values()) <= {LOST}
    answered = {query_id for query_id, problem in run.ended if problem is None}
    assert files_in(tmp_path).keys() >= expected_answers(sorted(answered)).keys()

    resumed = Run(tmp_path, query_ids).go()
    assert {query_id for query_id, _ in resumed.ended}.isdisjoint(answered)
    assert files_in(tmp_path) == expected_answers(query_ids)


def test_a_query_that_takes_its_replica_down_fails_after_three_tries_and_the_others_are_answered(tmp_path):
    query_ids = ["poison", *numbers(60)]
    run = Run(tmp_path, query_ids, num_conversations=1).go()
    assert run.failed == {"poison": LOST}
    assert files_in(tmp_path) == expected_answers(numbers(60))
    assert len(run.begun) in (3 + 2, 3 + 3)  # the last one is not started again if nothing is left for it


def test_a_query_that_fails_keeps_its_own_error_and_costs_no_replica(tmp_path):
    run = Run(tmp_path, ["wrong", *numbers(10)]).go()
    assert run.failed == {"wrong": "KeyError"}
    assert len(run.begun) == 3
    assert files_in(tmp_path) == expected_answers(numbers(10))


def test_a_query_whose_api_server_is_away_goes_back_and_fails_after_three_tries(tmp_path):
    run = Run(tmp_path / "answers", ["away", "once away", *numbers(5)]).go()
    assert run.failed == {"away": "ApiError"}
    assert run.messages["away"] == "nobody is there; 3 tries of 3"
    assert files_in(tmp_path / "answers") == expected_answers(["once away", *numbers(5)])
    assert len(run.begun) == 3  # no replica was lost


def test_a_result_that_cannot_be_sent_is_its_own_items_failure(tmp_path):
    run = Run(tmp_path, ["unspeakable", *numbers(10)], num_replicas=1).go()
    assert list(run.failed) == ["unspeakable"]
    assert files_in(tmp_path) == expected_answers(numbers(10))


def test_a_replica_that_hangs_is_replaced_and_its_queries_are_run_by_others(tmp_path, caplog):
    query_ids = ["freezes", *numbers(60)]
    run = Run(tmp_path / "answers", query_ids, replica_s=3.0).go()
    assert files_in(tmp_path / "answers") == expected_answers(query_ids)
    assert run.failed == {}
    assert run.left_over() == []
    assert "it made no progress for" in caplog.text
    assert len(run.begun) > 3


def test_a_replica_whose_queries_do_not_go_on_is_replaced_although_it_still_speaks(tmp_path):
    run = Run(tmp_path, ["stuck", *numbers(10)], num_replicas=1, num_conversations=1, replica_s=1.5).go()
    assert run.failed == {"stuck": LOST}
    assert files_in(tmp_path) == expected_answers(numbers(10))


def test_a_replica_that_dies_at_its_start_is_tried_three_times_and_the_others_do_its_work(tmp_path, caplog):
    query_ids = ["waits", *numbers(60)]
    run = Run(tmp_path / "answers", query_ids, num_replicas=2, load={1: "die"})
    with running(run):
        wait_for(lambda: run.supervisor.statuses()[1].state == "failed")
        let_go(tmp_path)
    assert files_in(tmp_path / "answers") == expected_answers(query_ids)
    assert len(run.begun) == 1 + 3
    assert "replica 1 was lost with 0 queries in flight: it ended with exit code 7" in caplog.text


def test_when_no_replica_stays_alive_the_run_ends_and_the_queries_are_left(tmp_path):
    run = Run(tmp_path, numbers(5), num_replicas=2, load={0: "die", 1: "die"}).go()
    assert run.ended == []
    assert len(run.begun) == 2 * 3


def test_what_is_wrong_with_the_checkpoint_is_raised_as_it_was_in_the_replica(tmp_path):
    with pytest.raises(DataError, match="the checkpoint is bad") as caught:
        Run(tmp_path, numbers(5), num_replicas=2, load={0: "refuse", 1: "refuse"}).go()
    assert caught.value.details == {"path": "model"}


def test_a_replica_that_cannot_load_leaves_its_work_to_the_others(tmp_path):
    run = Run(tmp_path, numbers(20), num_replicas=2, load={0: "refuse"}).go()
    assert files_in(tmp_path) == expected_answers(numbers(20))
    assert len(run.begun) == 2


def test_a_full_disk_ends_the_run_and_keeps_what_was_written(tmp_path):
    run = Run(tmp_path, [*numbers(10), "full", *numbers(500)[10:]])
    with pytest.raises(OutputError, match="the disk is full"):
        run.go()
    assert 0 < len(files_in(tmp_path)) < 510
    assert run.left_over() == []


def test_a_run_that_is_stopped_ends_its_steps_and_leaves_no_process(tmp_path):
    run = Run(tmp_path / "answers", ["waits", "waits too", *numbers(2000)], stopping_s=60.0)
    with running(run):
        wait_for(lambda: len(run.ended) > 5)
        run.stop.set()
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 60.0  # what goes on for ever ended between two steps
    assert run.failed == {}
    assert {"waits", "waits too"}.isdisjoint(dict(run.ended))
    assert run.left_over() == []


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGSTOP])
def test_a_replica_ends_at_once_when_its_parent_is_killed(tmp_path, number):
    """While it waits for work; and stopped, when its own watch over the parent cannot run and the kernel's can."""
    code = f"""
import os, time
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
from evaluation.toolbench.inference.replicas.handle import ProcessHandle
from tests.helpers.replica import Job, setup_of
handle = ProcessHandle(setup_of(ReplicaSpec(0), Job({str(tmp_path)!r})))
handle.connection.recv()
os.kill(handle.pid, {int(number)})
print(handle.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_replica_that_cannot_be_started_again_leaves_the_others_running(tmp_path, caplog):
    run = Run(tmp_path, ["poison", *numbers(60)], num_conversations=1)
    start, num_starts = run._start, 0

    def starts_three(spec):
        nonlocal num_starts
        num_starts += 1
        if num_starts > 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(spec)

    run.supervisor._hooks = dataclasses.replace(run.supervisor._hooks, start=starts_three)
    run.go()
    assert "could not be started: " in caplog.text
    assert run.left_over() == []


class PlayedReplica:
    """A replica whose part the test plays."""

    can_restart = True

    def __init__(self):
        self.connection, self.line = Pipe()

    def ended(self):
        return None

    def end(self, *, by_force):
        self.connection.close()

    def hear(self):
        assert self.line.poll(20), "the parent says nothing"
        return self.line.recv()


def test_a_replica_that_has_loaded_once_the_run_is_being_stopped_is_told_so():
    replicas = [PlayedReplica(), PlayedReplica()]
    layout, stop = RunLayout((ReplicaSpec(0), ReplicaSpec(1)), num_loading=2), threading.Event()
    hooks = RunHooks(lambda spec: replicas[spec.number], lambda *_: None, lambda *_: None)
    supervisor = Supervisor(["a query"], layout, hooks, Patience(stopping_s=20.0))
    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(supervisor.run, stop)
        replicas[0].line.send(Loaded(1))
        assert replicas[0].hear() == RunItem("a query")
        stop.set()
        assert replicas[0].hear() == Stop()
        replicas[1].line.send(Loaded(1))
        assert replicas[1].hear() == Stop()
        for replica, message in ((0, Dropped("a query")), (0, Ended()), (1, Ended())):
            replicas[replica].line.send(message)
        over.result(20)


def test_a_replica_that_compiles_is_shown_so_until_it_is_ready():
    replica, stop = PlayedReplica(), threading.Event()
    layout = RunLayout((ReplicaSpec(0),), num_loading=1)
    hooks = RunHooks(lambda _: replica, lambda *_: None, lambda *_: None)
    supervisor = Supervisor(["a query"], layout, hooks, Patience(stopping_s=20.0))
    assert supervisor.statuses()[0].state == "loading"
    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(supervisor.run, stop)
        for message, state in (
            (Beat(), "loading"),
            (Beat(is_compiling=True), "compiling"),
            (Loaded(1), "running"),
        ):
            replica.line.send(message)
            wait_for(lambda state=state: supervisor.statuses()[0].state == state)
        assert replica.hear() == RunItem("a query")
        for message in (Done("a query"), Ended()):
            replica.line.send(message)
        over.result(20)


def test_what_was_answered_while_the_run_was_stopped_counts_although_its_replica_could_not_say_so():
    replica, stop, ended = PlayedReplica(), threading.Event(), []
    hooks = RunHooks(
        start=lambda _: replica,
        done=lambda *what: ended.append(what),
        failed=lambda *what: ended.append(what),
        is_done=lambda query_id: query_id == "written",
    )
    layout = RunLayout((ReplicaSpec(0),), num_loading=1)
    supervisor = Supervisor(["written", "not"], layout, hooks, Patience(stopping_s=0.3))
    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(supervisor.run, stop)
        replica.line.send(Loaded(2))
        assert {replica.hear().item_id, replica.hear().item_id} == {"written", "not"}
        stop.set()
        over.result(20)
    assert ended == [("written", None)]


def test_a_query_that_does_not_come_to_a_step_is_dropped_after_a_moment(tmp_path):
    run = Run(tmp_path, ["stuck", *numbers(3)], num_replicas=1, stopping_s=0.5)
    threading.Timer(1.5, run.stop.set).start()
    run.go()
    assert "stuck" not in dict(run.ended)
    assert run.left_over() == []
