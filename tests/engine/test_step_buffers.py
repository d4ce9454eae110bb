"""Steps padded to the shapes of CUDA graphs, run without a GPU: the padding changes nothing."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.paged import model_setup
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.execution.slot_table import SlotTable
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import (
    StepArrays,
    StepBuffers,
    StepShape,
    exact_shape,
    graph_shape,
    graph_shapes,
)
from evaluation.toolbench.inference.engine.paged.plan import Plan, StepRow
from evaluation.toolbench.inference.engine.paged.prefix import Prefix
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling
from tests.helpers.engine import VOCAB_SIZE, tiny_llama
from tests.helpers.step_graphs import ReplayRecorder

PAGE_SIZE = 4
SAMPLINGS = [Sampling(), Sampling(), Sampling(repetition_penalty=1.3)]
CONSTRAINTS = [None, None, None, TokenSet(range(30, VOCAB_SIZE)), TokenTrie([[10, 11], [10, 11, 12], [16]], 5)]


@pytest.mark.parametrize(("overlap", "starts"), [(False, [0]), (True, [0]), (True, [0, 1])])
def test_an_engine_over_padded_steps_gives_the_tokens_of_the_reference(monkeypatch, overlap, starts):
    monkeypatch.setattr(model_setup, "stages_of", lambda model: split(model, starts))
    rng = random.Random(0)
    asked = [
        GenerationRequest(
            [rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(1, 70))],
            rng.randint(1, 20),
            TokenSet([5]),
            rng.choice(
                [
                    Sampling(),
                    Sampling(),
                    Sampling(1.0, seed=n),
                    Sampling(2.0, 0.9, 20, n),
                    Sampling(repetition_penalty=1.3),
                ]
            ),
            rng.choice(CONSTRAINTS),
        )
        for n in range(24)
    ]
    with contextlib.closing(GenerateEngine(tiny_llama())) as reference:
        expected = [reference.generate(request) for request in asked]
    options = {"num_pages": 40, "page_size": 8, "max_prefill_tokens": 100, "overlap": overlap}
    with contextlib.closing(PagedEngine(tiny_llama(), **options)) as engine:
        for stage in engine._runner.stages:
            stage.recorder = ReplayRecorder()
            stage._is_on_host = False
        engine._runner.capture(engine._scheduler.limits)
        captured = [set(stage.graphs) for stage in engine._runner.stages]
        futures = [engine.submit(request) for request in asked]
        assert [future.result() for future in futures] == expected
        # Those captured at the start were all that was needed.
        assert [set(stage.graphs) for stage in engine._runner.stages] == captured


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.booleans()), min_size=1, max_size=8))
def test_the_padding_of_a_step_stores_nothing_and_is_never_drawn_from(rows):
    plan = plan_of(rows)
    exact = StepBuffers(exact_shape(plan))
    shape = graph_shape(plan, max_prefill_rows=16, table_width=10)
    padded = StepBuffers(shape)
    assert (shape.num_tokens, shape.num_rows) >= (exact.shape.num_tokens, exact.shape.num_rows)
    table = SlotTable(len(rows), 10, PAGE_SIZE)
    small, large = (fill(table, plan, layout) for layout in (exact, padded))
    count = len(plan.decode)
    for name in ("ids", "token_slots", "positions", "kv_slots"):
        a, b = getattr(small, name), getattr(large, name)
        assert (a[:count] == b[:count]).all()
        assert (a[count:] == b[shape.decode_rows :][: len(a) - count]).all()
    assert sorted(large.kv_slots[large.kv_slots >= 0]) == sorted(small.kv_slots)
    assert len(set(small.kv_slots)) == len(small.kv_slots)
    assert sorted(large.contexts[large.contexts > 0]) == sorted(small.contexts)
    assert (large.starts[: len(plan.prefill) + 1] == small.starts).all()
    assert (large.starts[len(plan.prefill) :] == small.starts[-1]).all()
    drawn = len(plan.drawing)
    assert not large.draw_slots[drawn:].any()
    assert large.draw_slots[:drawn].tolist() == [row.sequence.slot for row in plan.drawing]
    assert large.draw_positions[:drawn].tolist() == [row.sequence.num_drawn for row in plan.drawing]
    assert (small.ids[small.logit_tokens[:drawn]] == large.ids[large.logit_tokens[:drawn]]).all()


@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        ([(5, 1, True)], StepShape(1, 0, 0, 10)),
        ([(5, 1, True)] * 65, StepShape(80, 0, 0, 10)),
        ([(5, 1, True)] * 9 + [(0, 40, True)], StepShape(16, 16, 48, 10)),
        ([(5, 1, True)] * 60 + [(0, 448, True)], StepShape(64, 16, 448, 10)),
        ([(0, 40, True)], StepShape(0, 16, 64, 10)),
        ([(5, 1, True)] * 257, None),
        ([(0, 2, True)] * 17, None),
        ([(0, 2049, True)], None),
    ],
)
def test_a_step_takes_the_smallest_graph_that_holds_it(rows, shape):
    assert graph_shape(plan_of(rows), max_prefill_rows=16, table_width=10) == shape


@given(st.integers(1, 256), st.integers(1, 16), st.integers(1, 1024), st.data())
def test_every_step_within_the_limits_has_a_graph_captured_at_the_start(running, prefill_rows, prefill_tokens, data):
    shapes = graph_shapes(
        max_decode_rows=running, max_prefill_rows=prefill_rows, max_prefill_tokens=prefill_tokens, table_width=10
    )
    assert len(shapes) == len(set(shapes))
    reading = [(0, prefill_tokens, False)] if prefill_tokens > 1 and data.draw(st.booleans()) else []
    decoding = data.draw(st.integers(0 if reading else 1, running))
    plan = plan_of([(5, 1, True)] * decoding + reading)
    assert graph_shape(plan, max_prefill_rows=prefill_rows, table_width=10) in shapes


def fill(table: SlotTable, plan: Plan, layout: StepBuffers) -> StepArrays:
    buffer = np.full(layout.size, 99, dtype=np.int32)  # what an earlier step left
    table.fill(plan, layout, buffer)
    return layout.views(buffer)


def plan_of(rows) -> Plan:
    """Rows of (stored tokens, new tokens, whether the newest of several is on the device alone)."""
    made = []
    next_page = 0
    for number, (start, count, is_unknown) in enumerate(rows):
        unknown = int(is_unknown and start + count > 1)
        tokens = [100 * number + position for position in range(start + count - unknown)]
        sequence = Sequence(number, GenerationRequest(tokens, 5, TokenSet([])), 5)
        sequence.num_unknown, sequence.slot = unknown, number + 1
        sequence.length += unknown
        num_pages = -(-(start + count) // PAGE_SIZE)
        sequence.prefix = Prefix(list(range(next_page, next_page + num_pages)), start)
        next_page += num_pages
        made.append(StepRow(sequence, start, count, draws=number % 3 != 0))
    decode = [row for row in made if row.count == 1]
    return Plan(decode, [row for row in made if row.count > 1], [])
