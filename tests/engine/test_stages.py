"""A model in stages, several batches in flight: the same tokens as the model in one piece."""

from __future__ import annotations

import contextlib
import logging
import random

import pytest
import torch
from accelerate import dispatch_model
from transformers import LlamaModel

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.paged import model_setup
from evaluation.toolbench.inference.engine.paged.attach import attach
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.execution import stages
from evaluation.toolbench.inference.engine.paged.execution.links import Link
from evaluation.toolbench.inference.engine.paged.execution.stages import split, stages_of
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling
from tests.helpers.engine import VOCAB_SIZE, tiny_llama, tiny_qwen2, tiny_qwen3

END = 5
CPU = torch.device("cpu")
TINY_POOL = {"num_pages": 20, "max_prefill_tokens": 9}


def requests(count: int) -> list[GenerationRequest]:
    rng = random.Random(count)
    constraints = [None, TokenSet(range(30, VOCAB_SIZE)), TokenTrie([[10, 11], [10, 11, 12], [16]], END)]
    asked = []
    for number in range(count):
        prompt = [rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(1, 60))]
        sampling = rng.choice([Sampling(), Sampling(1.0, seed=number), Sampling(repetition_penalty=1.3)])
        conversation = rng.choice([None, f"c{number % 4}"])
        asked.append(
            GenerationRequest(
                prompt, rng.randint(1, 15), TokenSet([END]), sampling, rng.choice(constraints), conversation
            )
        )
    return asked


@pytest.mark.parametrize(
    ("make", "starts", "options"),
    [
        pytest.param(tiny_llama, [0, 1], {}, id="llama-two-roomy"),
        pytest.param(tiny_llama, [0, 2, 3], TINY_POOL, id="llama-three-tiny-pool"),
        pytest.param(tiny_qwen2, [0, 2, 3], {}, id="qwen2-three-roomy"),
        pytest.param(tiny_qwen3, [0, 1], TINY_POOL, id="qwen3-two-tiny-pool"),
    ],
)
def test_batches_that_follow_each_other_through_stages_get_the_tokens_of_the_reference(
    monkeypatch, make, starts, options
):
    asked = requests(24)
    with contextlib.closing(GenerateEngine(make(num_hidden_layers=4))) as reference:
        expected = [reference.generate(request) for request in asked]
    monkeypatch.setattr(model_setup, "stages_of", lambda model: split(model, starts))
    options = {"num_pages": 80, "page_size": 8, "overlap": True, **options}
    with contextlib.closing(PagedEngine(make(num_hidden_layers=4), **options)) as engine:
        futures = [engine.submit(request) for request in asked]
        assert [future.result(60) for future in futures] == expected
        assert engine._scheduler.num_batches == len(starts)


def test_a_model_on_one_device_is_one_stage_and_is_left_as_it_is():
    model = tiny_llama()
    [stage] = stages_of(model)
    assert stage.decoder is model.base_model
    assert stage.is_first
    assert stage.is_last


def test_stages_have_the_models_own_weights_and_leave_the_model_whole():
    model = tiny_llama(num_hidden_layers=4)
    before = [name for name, _ in model.named_modules()]
    first, second = split(model, [0, 3])
    weights = [*first.decoder.layers.parameters(), *second.decoder.layers.parameters()]
    assert all(ours is theirs for ours, theirs in zip(weights, model.model.layers.parameters(), strict=True))
    assert [name for name, _ in model.named_modules()] == before
    ids = torch.tensor([[3, 1, 4]])
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert isinstance(first.decoder.norm, torch.nn.Identity)
    assert second.decoder.norm is model.model.norm


def test_layers_of_stages_run_without_accelerates_hooks_which_the_model_keeps():
    model = dispatch_model(tiny_llama(), {"": "cpu"}, force_hooks=True)
    first, second = split(model, [0, 1])
    assert any(hasattr(module, "_hf_hook") for module in model.model.layers.modules())
    for stage in (first, second):
        assert not any(hasattr(module, "_hf_hook") for module in stage.decoder.layers.modules())
        assert not any("forward" in module.__dict__ for module in stage.decoder.layers.modules())


class DoublingDecoder(LlamaModel):
    """Does something to its inputs that a stage in the middle would do once more."""

    def forward(self, input_ids=None, inputs_embeds=None, **options):
        embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return super().forward(inputs_embeds=2 * embeds, **options)


def test_a_decoder_that_treats_its_inputs_specially_is_not_split(monkeypatch, caplog):
    model = tiny_llama()
    model.model.__class__ = DoublingDecoder
    monkeypatch.setattr(stages, "_starts_of_devices", lambda model: [0, 1])
    attach(model)
    with caplog.at_level(logging.WARNING):
        [stage] = stages_of(model)
    assert stage.decoder is model.base_model
    assert "take turns" in caplog.text


def test_what_a_link_sends_is_safe_from_what_its_source_does_next():
    tensor = torch.arange(4)
    link = Link(CPU, CPU)
    room = link.room_for(tensor)
    link.copy(tensor, room).wait()
    tensor.zero_()
    assert room.tolist() == [0, 1, 2, 3]


def test_layers_that_cannot_be_compiled_are_left_as_they_were(monkeypatch, caplog):
    def no_compiler(*inputs, **options):
        raise RuntimeError("no C compiler was found")

    def compile_badly(layer, **options):
        layer._compiled_call_impl = no_compiler

    monkeypatch.setattr(torch.nn.Module, "compile", compile_badly)
    asked = requests(3)
    with contextlib.closing(GenerateEngine(tiny_llama())) as reference:
        expected = [reference.generate(request) for request in asked]
    told = []
    with caplog.at_level(logging.WARNING):
        engine = PagedEngine(
            tiny_llama(), num_pages=80, page_size=8, compile_layers=True, before_compiling=lambda: told.append(True)
        )
    assert told == [True]
    assert "no C compiler" in caplog.text
    with contextlib.closing(engine):
        assert [engine.generate(request) for request in asked] == expected
