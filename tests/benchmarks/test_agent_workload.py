"""The engine benchmark: the limit it compares with, and that it asks an engine for exactly the workload."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch

from benchmarks.agent_workload import limit_of, main, measure, summary
from benchmarks.ceilings import Ceilings
from benchmarks.conversations import make_conversation
from benchmarks.random_model import SHAPES, costs_of
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.request import GenerationResult
from evaluation.toolbench.inference.errors import EngineError

H200 = Ceilings(bytes_per_s=4.3e12, flop_per_s=790e12, lasting_flop_per_s=670e12)


class RecordingEngine:
    """Answers with zeros after a moment; remembers requests and how many were served at once."""

    def __init__(self):
        self.requests, self.ended, self.most_at_once = [], [], 0
        self._at_once = 0
        self._lock = threading.Lock()

    def generate(self, request):
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(0.001)
        with self._lock:
            self._at_once -= 1
        return GenerationResult((0,) * request.max_new_tokens, "length")

    def end_conversation(self, conversation_id):
        self.ended.append(conversation_id)


def test_the_limit_of_the_8b_shape_on_an_h200_is_the_quoted_one():
    costs = costs_of(SHAPES["8b"](), torch.bfloat16)
    assert costs.num_parameters == pytest.approx(8.42e9, rel=1e-3)
    assert (costs.step_bytes, costs.kv_token_bytes) == (pytest.approx(15.4e9, rel=1e-3), 131_072)
    assert costs.prompt_token_flop == pytest.approx(14e9, rel=0.01)
    assert limit_of(costs, H200, 64).queries_per_min == pytest.approx(630, rel=0.01)
    # Two cards, each with half the layers and half the work of two batches.
    assert limit_of(costs, H200, 64, 2).queries_per_min == 2 * limit_of(costs, H200, 32).queries_per_min
    alone = limit_of(costs, H200, 1)
    assert 510 / alone.decode_s == pytest.approx(279, rel=0.03)  # quoted without the time of reading keys and values


def test_tied_embeddings_are_read_as_the_output_embedding():
    costs = costs_of(SHAPES["qwen3b"](), torch.bfloat16)
    assert costs.step_bytes == 2 * costs.num_parameters


def test_an_engine_is_asked_for_the_workload_and_told_of_its_end():
    engine, actions = RecordingEngine(), TokenSet([1, 2])
    conversations = [make_conversation(number, vocab_size=50) for number in range(5)]
    measurement = measure(engine, conversations, 2, actions)
    assert engine.most_at_once <= 2
    assert sorted(engine.ended) == sorted(conversation.conversation_id for conversation in conversations)
    assert sum(request.max_new_tokens for request in engine.requests) == 5 * 510
    assert {request.max_new_tokens for request in engine.requests if request.constraint is actions} == {2}
    assert {request.max_new_tokens for request in engine.requests if request.constraint is None} == {60, 40}
    assert [len(measurement.latencies_s[kind]) for kind in ("thought", "action", "arguments")] == [25] * 3
    assert len(measurement.steps_s) == 25


def test_an_error_of_the_engine_ends_the_benchmark():
    class Broken(RecordingEngine):
        def generate(self, request):
            raise EngineError("no room")

    with pytest.raises(EngineError, match="no room"):
        measure(Broken(), [make_conversation(0, vocab_size=50)], 1, None)


def test_rates_follow_from_the_time_that_all_queries_took():
    measurement = measure(RecordingEngine(), [make_conversation(0, vocab_size=50)], 1, None)
    measurement.elapsed_s = 6.0
    result = summary(measurement, limit_of(costs_of(SHAPES["tiny"](), torch.float32), H200, 1))
    assert (result["queries_per_min"], result["tokens_per_s"]) == (10, 85)
    assert list(result["latency_ms"]) == ["thought", "action", "arguments", "step"]


def test_the_command_ends_with_one_json_line(capsys):
    options = ["--engine", "paged", "--shape", "tiny", "--conversations", "2", "--queries", "2", "--warm_up", "0"]
    assert main([*options, "--restrict_actions", "--layout", "upstream"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["queries_per_min"] > 0
    assert (result["queries"], result["layout"], result["restrict_actions"]) == (2, "upstream", True)
    assert 0 < result["latency_ms"]["first token"][0] < result["latency_ms"]["thought"][0]
