"""The last layer computes only the tokens that are drawn from, where that is less, and changes no token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.attach import attach
from evaluation.toolbench.inference.engine.paged.execution.last_layer import LastLayer, use_thin_last_layer
from evaluation.toolbench.inference.engine.paged.execution.runner import ModelRunner
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage, split
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.model_setup import prepared_stages
from evaluation.toolbench.inference.engine.paged.pages import PagePool
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling
from tests.helpers.engine import VOCAB_SIZE, tiny_llama, tiny_qwen2, tiny_qwen3

PROMPTS = [[(7 * number + 3 * place) % VOCAB_SIZE for place in range(20 + 9 * number)] for number in range(5)]
NUM_NEW = 8


class PaddedGraph:
    """Computes a step in one of the sizes that CUDA graphs are captured for, padding included."""

    def __init__(self, layout, forward) -> None:
        self.layout = layout
        self._forward = forward
        self._inputs = torch.zeros(layout.size, dtype=torch.int32)
        self.arrays = layout.views(self._inputs)

    def replay(self, inputs: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        self._inputs.copy_(inputs)
        return self._forward(self.layout, self._inputs, hidden)


class PaddedSteps:
    """Stands for what captures CUDA graphs."""

    def record(self, layout, forward, hidden) -> PaddedGraph:
        return PaddedGraph(layout, forward)

    def release_memory(self) -> None:
        """Nothing is held."""


@torch.inference_mode()
def tokens_of(model, stages: list[Stage], *, is_padded: bool = False, prefill_tokens: int = 100) -> list[list[int]]:
    """Return what `stages` draw after each of the prompts, some greedily and some sampled."""
    _, layers = attach(model)
    limits = Limits(8, prefill_tokens)
    scheduler = Scheduler(PagePool(96, 8), limits, len(stages))
    runner = ModelRunner(
        model,
        stages,
        KvCache(layers, 96, 8),
        vocab_size=VOCAB_SIZE,
        num_batches=len(stages),
        slots_per_batch=scheduler.slots_per_batch,
        max_prefill_rows=16,
        table_width=16,
        use_graphs=is_padded,
        recorder_for=lambda _: PaddedSteps(),
    )
    if is_padded:
        for each in runner.stages:
            each._is_on_host = False  # the way of GPUs, with PyTorch's attention
    sequences = []
    for number, prompt in enumerate(PROMPTS):
        sampling = Sampling(0.9, seed=number) if number % 2 else Sampling()
        sequence = Sequence(number, GenerationRequest(prompt, NUM_NEW, TokenSet([]), sampling), NUM_NEW)
        sequences.append(sequence)
        scheduler.add(sequence)
    while scheduler.has_work:
        for batch in range(len(stages)):
            plan = scheduler.plan(batch)
            if plan is not None:
                launched = runner.launch(plan)
                scheduler.note_launch(plan)
                scheduler.take_tokens(plan, launched.tokens())
    return [list(sequence.result().token_ids) for sequence in sequences]


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen2, tiny_qwen3])
@pytest.mark.parametrize("starts", [[0], [0, 1]], ids=["one-stage", "two-stages"])
@pytest.mark.parametrize("prefill_tokens", [100, 40], ids=["whole-prompts", "in-pieces"])
def test_tokens_are_those_of_a_layer_that_computes_all(make, starts, prefill_tokens):
    model = make()
    expected = tokens_of(model, split(model, starts), prefill_tokens=prefill_tokens)
    stages = thin(model, starts)
    assert tokens_of(model, stages, prefill_tokens=prefill_tokens) == expected
    assert tokens_of(model, stages, prefill_tokens=prefill_tokens, is_padded=True) == expected


def test_the_rest_of_the_layer_sees_the_drawn_rows_alone_and_every_layer_before_it_all():
    model = tiny_llama()
    stages = thin(model, [0])
    seen: dict[str, list[int]] = {"first": [], "last": []}
    for name, layer in zip(seen, stages[0].decoder.layers, strict=True):
        layer.mlp.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].shape[1]))
    tokens_of(model, stages, prefill_tokens=1000)
    num_prompt = sum(map(len, PROMPTS))
    num_tried = 2  # tokens that pass the model when it is attached to pages
    assert sum(seen["first"]) == num_tried + num_prompt + len(PROMPTS) * (NUM_NEW - 1)
    assert sum(seen["last"]) == num_tried + len(PROMPTS) * NUM_NEW


def test_the_models_own_layer_is_left_as_it_is():
    model = tiny_llama()
    attach(model)
    [stage] = prepared_stages(model, None, None, None, None, True)
    assert stage.is_thin
    assert isinstance(stage.decoder.layers[-1], LastLayer)
    assert not isinstance(model.model.layers[-1], LastLayer)
    assert stage.decoder.layers[-1].self_attn.q_proj.weight is model.model.layers[-1].self_attn.q_proj.weight


def test_what_the_model_asks_of_its_layers_is_still_there():
    model = tiny_llama()
    [stage] = thin(model, [0])
    assert stage.decoder.layers[-1].hidden_size == model.config.hidden_size
    with pytest.raises(AttributeError):
        _ = stage.decoder.layers[-1].no_such_thing


class MixesTokens(torch.nn.Module):
    """A feed-forward layer of which a token's result depends on the others of its step."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + hidden.mean(dim=1, keepdim=True)


class NormalisesTwice(torch.nn.Module):
    """A norm that counts: a layer that calls it differently gets other keys."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return hidden * self.calls


@pytest.mark.parametrize(
    ("name", "module"), [("mlp", MixesTokens()), ("input_layernorm", NormalisesTwice())], ids=["results", "keys"]
)
def test_a_layer_that_would_give_something_else_computes_all_tokens(name, module):
    model = tiny_llama()
    attach(model)
    [stage] = split(model, [0])
    setattr(stage.decoder.layers[-1], name, module)
    [stage] = use_thin_last_layer([stage], compile_it=False)
    assert not stage.is_thin
    assert not isinstance(stage.decoder.layers[-1], LastLayer)


def test_a_layer_whose_positions_cannot_be_told_apart_from_its_settings_computes_all_tokens():
    """What it is given for each token is in no order that is known here, so wanted tokens would get others' places."""
    model = tiny_llama()
    attach(model)
    [stage] = split(model, [0])
    attention = stage.decoder.layers[-1].self_attn
    plain = attention.forward

    def by_count(hidden_states, position_embeddings, **given):
        count = hidden_states.shape[1]
        places = tuple(part[:, :1].expand(-1, count, -1) + torch.arange(count)[:, None] for part in position_embeddings)
        return plain(hidden_states=hidden_states, position_embeddings=places, **given)

    attention.forward = by_count
    [stage] = use_thin_last_layer([stage], compile_it=False)
    assert not stage.is_thin


def test_a_layer_without_a_norm_before_its_attention_computes_all_tokens():
    model = tiny_llama()
    attach(model)
    [stage] = split(model, [0])
    del stage.decoder.layers[-1].input_layernorm
    [stage] = use_thin_last_layer([stage], compile_it=False)
    assert not stage.is_thin


def thin(model: Any, starts: list[int]) -> list[Stage]:
    attach(model)
    stages = use_thin_last_layer(split(model, starts), compile_it=False)
    assert stages[-1].is_thin
    return stages
