"""A plan and the engine keep the same memory for steps."""

from __future__ import annotations

import pytest
import torch

from evaluation.toolbench.inference.engine.paged import working_memory
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.multi_gpu import fitting
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.units import GIB
from tests.helpers.placement import TOOLGEN_8B, footprint


@pytest.mark.parametrize("num_gpus", [1, 2, 3, 8])
@pytest.mark.parametrize("num_running", [1, 64, 128])
def test_a_plan_reckons_with_what_the_engine_will_set_aside(num_gpus, num_running):
    limits = Limits.of(num_gpus, max_running=num_running, max_prefill_tokens=None)
    rows = working_memory.rows_of_a_step(num_running, num_gpus, limits)
    assert fitting.working_bytes(TOOLGEN_8B, Workload(), num_running, num_gpus) == working_memory.working_bytes(
        TOOLGEN_8B.activation_bytes_per_token, limits, num_gpus
    )
    assert fitting.logits_bytes(TOOLGEN_8B, Workload(), num_running, num_gpus) == working_memory.logits_bytes(
        rows, TOOLGEN_8B.vocab_size
    )


def test_it_is_more_than_a_card_was_seen_to_need():
    """On H200s the doctor saw half a GiB beside weights and KV cache with 64 greedy conversations."""
    needed = fitting.working_bytes(TOOLGEN_8B, Workload(), 64, 1) + fitting.logits_bytes(TOOLGEN_8B, Workload(), 64, 1)
    assert 0.6 * GIB < needed < 1.5 * GIB


def test_more_gpus_need_less_of_each_and_more_rows_need_more():
    rows = [fitting.logits_bytes(TOOLGEN_8B, Workload(), 128, num_gpus) for num_gpus in (1, 2, 4)]
    assert rows == sorted(rows, reverse=True)
    assert fitting.working_bytes(footprint(), Workload(), 128, 1) == working_memory.RUNTIME_BYTES


def test_the_engine_keeps_logits_where_the_head_is_alone(monkeypatch):
    from evaluation.toolbench.inference.engine.paged import engine
    from tests.helpers.engine import tiny_llama

    asked = []

    def count_pages(layers, page_size, *, working_bytes, **_):
        asked.append([working_bytes(torch.device("cpu")), working_bytes(torch.device("meta"))])
        return 8

    monkeypatch.setattr(engine, "count_pages", count_pages)
    model = tiny_llama()
    engine.PagedEngine(model, max_running=32).close()
    [(here, elsewhere)] = asked
    assert here - elsewhere == working_memory.logits_bytes(32, model.config.vocab_size)
