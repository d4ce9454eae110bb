"""A planned step on its way: what it draws, what it leaves on the device, and whose memory it has."""

from __future__ import annotations

import pytest
import torch

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.attach import attach
from evaluation.toolbench.inference.engine.paged.execution.runner import ModelRunner
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.pages import PagePool
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling
from tests.helpers.engine import VOCAB_SIZE, tiny_llama

NO_STOP = TokenSet([])
SAMPLINGS = [Sampling(), Sampling(1.5, seed=3), Sampling(repetition_penalty=2.0), Sampling()]


class Serving:
    """A scheduler and a runner over a tiny model; the caller says when a step is launched and when it is taken."""

    def __init__(self, num_batches: int = 1) -> None:
        model = tiny_llama()
        _, layers = attach(model)
        self.scheduler = Scheduler(PagePool(64, 8), Limits(8, 100), num_batches)
        self.runner = ModelRunner(
            model,
            split(model, list(range(num_batches))),
            KvCache(layers, 64, 8),
            vocab_size=VOCAB_SIZE,
            num_batches=num_batches,
            slots_per_batch=self.scheduler.slots_per_batch,
            max_prefill_rows=16,
            table_width=16,
            use_graphs=False,
        )
        for number, sampling in enumerate(SAMPLINGS):
            request = GenerationRequest([number, 5, 6 + number], 9, NO_STOP, sampling)
            self.scheduler.add(Sequence(number, request, 9))

    def launch(self, batch: int = 0):
        plan = self.scheduler.plan(batch)
        launched = self.runner.launch(plan)
        self.scheduler.note_launch(plan)
        return launched

    def take(self, launched) -> list[int]:
        tokens = launched.tokens()
        self.scheduler.take_tokens(launched.plan, tokens)
        return tokens


def test_a_step_that_fails_while_it_draws_can_be_launched_again(monkeypatch):
    """Its greedy rows had been drawn by then; the token before them, unknown to the host, is still there."""
    undisturbed, serving = Serving(), Serving()
    first, second = undisturbed.launch(), undisturbed.launch()
    expected = [undisturbed.take(first), undisturbed.take(second)]

    first = serving.launch()
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.toolbench.inference.engine.paged.execution.drawing.sample", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            serving.launch()
    second = serving.launch()
    assert [serving.take(first), serving.take(second)] == expected


def out_of_memory(*arguments, **options):
    raise torch.OutOfMemoryError("pretended")


@pytest.mark.parametrize("num_batches", [1, 2])
def test_steps_on_their_way_share_no_memory_and_hand_it_on_when_their_tokens_are_taken(num_batches):
    serving = Serving(num_batches)
    in_flight = [serving.launch(batch) for batch in [*range(num_batches), 0]]
    used = {id(step.staging) for step in in_flight}
    assert len(used) == num_batches + 1
    for step in range(6):
        serving.take(in_flight.pop(0))
        in_flight.append(serving.launch((step + 1) % num_batches))
    assert {id(step.staging) for step in in_flight} == used


def test_memory_of_a_step_that_failed_is_the_next_ones(monkeypatch):
    serving = Serving()
    with monkeypatch.context() as patch:
        patch.setattr(serving.runner.stages[0], "forward", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            serving.launch()
    [staging] = serving.runner._free
    assert serving.launch().staging is staging
