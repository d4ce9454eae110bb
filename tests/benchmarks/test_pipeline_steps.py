"""The simulated pipeline serves every query with steps that have graphs, and agents keep what they will read again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import host_step, pipeline_steps
from benchmarks.conversations import NEW_PROMPT_TOKENS_PER_QUERY, SYSTEM_PROMPT, TOKENS_PER_QUERY
from benchmarks.pipeline_steps import Simulation
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import graph_shape, graph_shapes
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.plan import Plan

PLENTY = 10**6  # tokens


class Watched(Simulation):
    """Holds every plan against the shapes of which graphs are captured at the start."""

    def _run(self, plan: Plan) -> float:
        shapes = graph_shapes(
            max_decode_rows=min(self.limits.max_running, self.scheduler.slots_per_batch),
            max_prefill_rows=self.limits.max_prefill_rows,
            max_prefill_tokens=self.limits.max_prefill_tokens,
            table_width=64,
        )
        assert graph_shape(plan, self.limits.max_prefill_rows, 64) in shapes
        return super()._run(plan)


@settings(max_examples=8)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 5), st.sampled_from([PLENTY, 9000]))
def test_every_step_that_the_scheduler_plans_has_a_graph(num_stages, conversations, spare_slots, kv_tokens):
    limits = Limits.of(num_stages, max_running=conversations + spare_slots, max_prefill_tokens=None)
    found = Watched(num_stages, conversations, conversations, kv_tokens, limits).run()
    assert found["without_graph"] == 0


@pytest.mark.parametrize("num_stages", [1, 3])
def test_every_token_is_read_once_where_there_is_room(num_stages):
    limits = Limits.of(num_stages, max_running=8, max_prefill_tokens=None)
    simulation = Simulation(num_stages, 8, 16, PLENTY, limits)
    found = simulation.run()
    assert found["evictions"] == found["preemptions"] == 0
    assert simulation.scheduler.counts.generated_tokens == 16 * TOKENS_PER_QUERY
    once = 16 * NEW_PROMPT_TOKENS_PER_QUERY
    assert once <= found["prefill_tokens"] <= once + 2 * SYSTEM_PROMPT


def test_where_room_is_a_little_short_conversations_that_come_back_at_once_keep_their_pages():
    limits = Limits.of(2, max_running=24, max_prefill_tokens=None)
    [needed] = {Simulation(2, 24, 24, PLENTY, limits).run()["prefill_tokens"]}
    found = Simulation(2, 24, 24, 62_000, limits).run()  # of about 70,000 that all of them fill at the end
    assert found["prefill_tokens"] < 1.1 * needed
    assert found["evictions"] <= 24 / 4


def test_a_row_is_one_line_of_json(capsys):
    options = ["--stages", "2", "--conversations", "3", "--rounds", "1", "--trace"]
    assert pipeline_steps.main(options) == 0
    *trace, last = capsys.readouterr().out.splitlines()
    assert len(trace) > TOKENS_PER_QUERY
    assert json.loads(last)["stages"] == 2


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 8))
def test_no_stage_of_the_host_benchmark_lies_on_two_gpus(num_layers, num_stages, num_gpus):
    num_stages = min(num_stages, num_layers)
    starts = [num_layers * stage // num_stages for stage in range(num_stages)]
    places = host_step.places_of_layers(starts, num_layers, num_gpus)
    for start, end in zip(starts, [*starts[1:], num_layers], strict=True):
        assert len(set(places[start:end])) == 1
    assert set(places) == set(range(min(num_stages, num_gpus)))
