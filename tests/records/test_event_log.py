"""What a run writes down while it happens: whole lines, from any thread, and never at an answer's cost."""

import errno
import json
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.request import GenerationRequest, GenerationResult
from evaluation.toolbench.inference.errors import OutputError, StopRequested
from evaluation.toolbench.inference.records.event_history import read_history
from evaluation.toolbench.inference.records.event_log import EventLog, event_file
from evaluation.toolbench.inference.replicas.limits import TimeLimits
from evaluation.toolbench.inference.replicas.memory_sampler import MemorySampler
from evaluation.toolbench.inference.replicas.meter import Meter
from evaluation.toolbench.inference.replicas.watched_engine import WatchedEngine, watched_query
from tests.helpers.run_report import GIVE_UP, Move, finish, replica_log, run_query


def events(folder, replica=0):
    return [json.loads(line) for line in event_file(folder, replica).read_text().splitlines()]


def test_a_query_is_told_step_by_step(tmp_path):
    with replica_log(tmp_path, gpus=["GPU-a"], num_conversations=4) as log:
        run_query(tmp_path, log, "7", [Move(generation_s=2, call_s=3, code=5, tokens=50), finish()])
    start, begun, thought, call, finishing, done, ended, stop = events(tmp_path)
    assert (start["event"], start["gpus"], start["num_conversations"]) == ("replica_start", ["GPU-a"], 4)
    assert (begun["event"], begun["text"]) == ("query_start", "Will it be sunny in Paris?")
    assert (thought["seconds"], thought["tokens"], thought["prompt_tokens"]) == (2, 50, 900)
    assert (call["seconds"], call["code"], call["name"]) == (3, 5, "daily_forecast_for_sky_watch")
    assert thought["step"] == call["step"] != finishing["step"] == done["step"]
    assert call["t"] == thought["t"] + 2
    assert (ended["event"], ended["outcome"], ended["tokens"]) == ("query_end", "answered", 90)
    assert stop["event"] == "replica_end"


@pytest.mark.parametrize(
    ("moves", "outcome"),
    [([finish()], "answered"), ([finish(GIVE_UP)], "gave_up"), ([Move(action=None)] * 16, "no_answer")],
)
def test_the_outcome_is_that_of_the_search(tmp_path, moves, outcome):
    with replica_log(tmp_path) as log:
        run_query(tmp_path, log, "7", moves)
    assert events(tmp_path)[-2]["outcome"] == outcome


def test_a_failure_is_recorded_and_raised(tmp_path):
    with replica_log(tmp_path) as log, pytest.raises(RuntimeError, match="out of moves"), log.query("7"):
        raise RuntimeError("out of moves")
    assert events(tmp_path)[-2]["outcome"] == "failed"
    assert events(tmp_path)[-2]["error"] == {"type": "RuntimeError", "message": "out of moves"}


def test_a_stopped_run_is_no_failure_of_its_queries(tmp_path):
    with replica_log(tmp_path) as log, pytest.raises(StopRequested), log.query("7"):
        raise StopRequested
    assert events(tmp_path)[-2]["outcome"] == "interrupted"


def test_many_threads_write_whole_lines(tmp_path):
    def answer(query_id):
        with log.query(query_id, text="x" * 5000) as recorder:
            recorder.on_tool_start(0, "f", "{}")
            recorder.on_tool_end(0, "ok", 0)

    with EventLog(tmp_path, run_id="run-1") as log, ThreadPoolExecutor(8) as pool:
        list(pool.map(answer, map(str, range(200))))
    history = read_history(tmp_path)
    assert history.num_skipped_lines == 0
    assert sorted(int(query_id) for query_id, _ in history.attempts()) == list(range(200))


def test_a_new_log_does_not_join_the_torn_line_of_a_killed_one(tmp_path):
    with replica_log(tmp_path) as log:
        run_query(tmp_path, log, "1", [finish()])
    with event_file(tmp_path, 0).open("ab") as file:
        file.write(b'{"t":1700000009,"event":"query_st')
    with replica_log(tmp_path, run_id="run-2") as log:
        run_query(tmp_path, log, "2", [finish()])
    history = read_history(tmp_path)
    assert [session.run_id for session in history.sessions] == ["run-1", "run-2"]
    assert history.num_skipped_lines == 1


def test_a_full_disk_costs_events_and_no_answer(tmp_path, monkeypatch, caplog):
    is_full = False
    write = os.write

    def write_or_fail(file, data):
        if is_full:
            write(file, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", write_or_fail)
    with replica_log(tmp_path) as log:
        run_query(tmp_path, log, "1", [finish()])
        is_full = True
        run_query(tmp_path, log, "2", [finish()])
        is_full = False
        run_query(tmp_path, log, "3", [finish()])
    assert caplog.text.count("No space left on device") == 1
    assert {query_id for query_id, _ in read_history(tmp_path).attempts()} == {"1", "3"}
    assert len(list(tmp_path.glob("*_CoT@1.json"))) == 3


def test_a_log_that_cannot_be_opened_is_an_output_error(tmp_path):
    (tmp_path / "answers").write_text("a file")
    with pytest.raises(OutputError, match="cannot write the run's events"):
        EventLog(tmp_path / "answers", run_id="run-1")


class FixedEngine:
    vocab_size, max_length = 100, 64

    def generate(self, request):
        return self.submit(request).result()

    def submit(self, request):
        future = Future()
        future.set_result(GenerationResult((1, 2, 3), "stop"))
        return future

    def end_conversation(self, conversation_id):
        self.ended = conversation_id

    def close(self):
        self.ended = "all"


def test_tokens_are_counted_for_the_query_in_whose_thread_they_are_made(tmp_path):
    inner = FixedEngine()
    engine = WatchedEngine(inner, Meter())
    request = GenerationRequest([5, 6, 7, 8], 10, TokenSet([1]))
    both_begun = threading.Barrier(2)

    def answer(query_id, num_generations):
        with log.query(query_id, method="CoT@1") as recorder, watched_query(TimeLimits(), recorder):
            both_begun.wait()
            recorder.on_llm_start(0, [])
            for _ in range(num_generations):
                engine.generate(request)
            engine.submit(request).result()
            recorder.on_llm_end(0, {"content": "hm"})

    with replica_log(tmp_path) as log, ThreadPoolExecutor(2) as pool:
        list(pool.map(answer, "ab", [1, 4]))
    attempts = read_history(tmp_path).attempts()
    assert [attempts[query_id, "CoT@1"][0].tokens for query_id in "ab"] == [6, 15]
    assert attempts["b", "CoT@1"][0].generations[0].prompt_tokens == 4
    engine.generate(request)  # outside of any query
    engine.end_conversation("a")
    assert inner.ended == "a"


class Gpu:
    uuid, total_bytes, used_bytes = "GPU-a", 80, 30


def test_memory_is_sampled_until_it_cannot_be_read(tmp_path, caplog):
    readings = iter([[Gpu()], [Gpu()]])
    with replica_log(tmp_path) as log:
        sampler = MemorySampler([log], lambda: next(readings), period_s=0.001)
        while "GPU memory is not recorded any more" not in caplog.text:
            time.sleep(0.001)
        sampler.stop()
    [session] = read_history(tmp_path).sessions
    assert [(sample.gpu, sample.used_bytes, sample.total_bytes) for sample in session.memory] == [("GPU-a", 30, 80)] * 2
