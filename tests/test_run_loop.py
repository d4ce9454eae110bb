"""Queries run at once, fail alone, and stop when asked."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.Algorithms.events import StopRequested
from evaluation.toolbench.inference.Downstream_tasks.run_loop import run_queries
from evaluation.toolbench.inference.errors import ApiError, DataError, OutputError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 5))
def test_every_task_is_reported_once_with_its_own_error(fails, num_threads):
    tasks = list(enumerate(fails))

    def run_one(position, task):
        assert task == tasks[position]
        if task[1]:
            raise DataError(f"task {position}")

    reports = dict(run_queries(tasks, run_one, num_threads=num_threads, stop=threading.Event()))
    assert reports.keys() == set(tasks)
    for task, error in reports.items():
        assert (str(error) == f"task {task[0]}") if task[1] else error is None


def test_one_thread_keeps_the_order():
    begun = []
    list(run_queries("abcdef", lambda _, task: begun.append(task), num_threads=1, stop=threading.Event()))
    assert begun == list("abcdef")


def test_tasks_run_at_once():
    meeting = threading.Barrier(4, timeout=20)
    reports = list(run_queries(range(4), lambda *_: meeting.wait(), num_threads=4, stop=threading.Event()))
    assert [error for _, error in reports] == [None] * 4


def test_after_a_stop_nothing_is_begun_and_what_was_cut_off_is_not_reported():
    stop = threading.Event()

    def run_one(position, task):
        if position == 2:
            stop.set()
        if position == 1:
            assert stop.wait(20)
            raise StopRequested

    reports = list(run_queries(range(50), run_one, num_threads=2, stop=stop))
    assert sorted(task for task, _ in reports) == [0, 2]


@pytest.mark.parametrize("error", [OutputError("the disk is full"), ApiError("the server is gone")])
def test_an_error_that_all_would_meet_ends_the_run_after_the_running_tasks(error):
    stop, is_running = threading.Event(), threading.Event()
    finished = []

    def run_one(position, task):
        if position == 0:
            assert is_running.wait(20)
            raise error
        is_running.set()
        assert stop.wait(20)
        time.sleep(0.01)
        finished.append(task)

    with pytest.raises(type(error)):
        list(run_queries(range(50), run_one, num_threads=2, stop=stop))
    assert finished == [1]


def test_a_consumer_that_gives_up_stops_the_run():
    stop = threading.Event()
    reports = run_queries(range(1000), lambda *_: time.sleep(0.001), num_threads=2, stop=stop)
    next(reports)
    reports.close()
    assert stop.is_set()
