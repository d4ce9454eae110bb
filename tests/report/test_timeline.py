"""Curves and sums over a history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.records.event_history import read_history
from evaluation.toolbench.inference.records.event_log import QueryRecorder
from evaluation.toolbench.inference.run_report.timeline import mean_concurrency, timelines
from evaluation.toolbench.inference.run_report.totals import quantile, totals_of
from tests.helpers.run_report import Move, SimulatedLog, finish, replica_log, run_query

TIMES = st.floats(-10, 110, allow_nan=False)


@given(st.lists(st.tuples(TIMES, st.floats(0, 50))), st.integers(1, 40))
def test_no_time_is_lost_between_the_bins(starts, num_bins):
    spans = [(start, start + seconds) for start, seconds in starts]
    inside = sum(max(0.0, min(end, 100) - max(start, 0)) for start, end in spans)
    covered = sum(mean_concurrency(spans, 0, 100, num_bins)) * 100 / num_bins
    assert covered == pytest.approx(inside, abs=0.06 * (1 + len(spans)))  # rounded to thousandths per bin


def test_a_replica_generates_waits_and_is_idle(tmp_path):
    with replica_log(tmp_path, num_conversations=2) as log:
        log.time += 2
        run_query(tmp_path, log, "1", [Move(generation_s=3, call_s=4), finish()])  # the last second is for Finish
    [run] = timelines(read_history(tmp_path), num_bins=10)
    [replica] = run.replicas
    assert (run.start, run.seconds, replica.num_conversations) == (SimulatedLog.time, 10, 2)
    assert replica.generating == [0, 0, 1, 1, 1, 0, 0, 0, 0, 1]
    assert replica.waiting == [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    assert replica.other == [0] * 10
    assert replica.busy == 0.4
    assert not replica.was_killed


def test_loading_is_drawn_as_loading_and_is_no_part_of_what_rates_are_over(tmp_path):
    with replica_log(tmp_path, load_s=4) as first:
        run_query(tmp_path, first, "1", [finish()])
        first.time += 5
    late = SimulatedLog(tmp_path, 1, run_id="run-1", load_s=2)
    with late:
        late.write("memory", SimulatedLog.time + 3, gpu="GPU-a", used=1, total=10)
    [run] = timelines(read_history(tmp_path), num_bins=10)
    assert (run.start, run.seconds, run.serving_s) == (SimulatedLog.time - 4, 10, 6)
    assert run.replicas[0].loading == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert run.replicas[1].loading == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert run.replicas[0].generating == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("doing", ["generation", "call"])
def test_what_the_end_of_a_query_cut_off_is_drawn_as_what_it_was(tmp_path, doing):
    with replica_log(tmp_path) as log:
        recorder = QueryRecorder(log, "1")
        if doing == "call":
            recorder.on_tool_start(0, "forecast", "{}")
        else:
            recorder.on_llm_start(0, [])
        log.time += 10
        recorder.end("failed", TimeoutError("it took too long"))
    history = read_history(tmp_path)
    [replica] = timelines(history, num_bins=5)[0].replicas
    ones, zeros = [1] * 5, [0] * 5
    assert (replica.generating, replica.waiting) == ((ones, zeros) if doing == "generation" else (zeros, ones))
    assert replica.other == zeros
    [attempt] = history.sessions[0].attempts
    assert (attempt.generations, attempt.calls) == ([], [])  # no step came of it


def test_runs_are_apart_and_restarts_of_a_replica_together(tmp_path):
    killed = SimulatedLog(tmp_path, 0, run_id="run-1")
    run_query(tmp_path, killed, "1", [finish()])
    for run_id in ("run-1", "run-2"):
        with replica_log(tmp_path, run_id=run_id) as log:
            run_query(tmp_path, log, "2", [finish()])
    runs = timelines(read_history(tmp_path))
    assert [(run.run_id, len(run.replicas), run.replicas[0].was_killed) for run in runs] == [
        ("run-1", 1, True),
        ("run-2", 1, False),
    ]


def test_memory_is_the_most_that_was_seen_in_each_bin(tmp_path):
    with replica_log(tmp_path) as log:
        for seconds, used in [(0, 5), (0.2, 9), (3, 4)]:
            log.write("memory", SimulatedLog.time + seconds, gpu="GPU-a", used=used, total=10)
        log.time += 4
    [run] = timelines(read_history(tmp_path), num_bins=4)
    assert (run.memory[0].used_bytes, run.memory[0].total_bytes) == ([9, None, None, 4], 10)


def test_totals_are_of_one_run_or_of_all(tmp_path):
    for run_id, code in (("run-1", 0), ("run-2", 12)):
        with replica_log(tmp_path, run_id=run_id) as log:
            run_query(tmp_path, log, run_id, [Move(code=code, tokens=50, call_s=2), finish()])
    history = read_history(tmp_path)
    both, last = totals_of(history), totals_of(history, "run-2")
    assert (both.tokens.generated, last.tokens.generated) == (180, 90)
    assert (both.api.calls, both.api.errors, both.api.by_code) == (2, 1, {"0": 1, "12": 1})  # Finish asks no API
    assert (last.api.calls, last.api.median_s, last.generation_s) == (1, 2.0, 2.0)
    assert both.query_seconds == [4.0, 4.0]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values(values, fraction):
    values.sort()
    assert quantile(values, fraction) in values
    assert quantile(values, 1.0) == values[-1]
