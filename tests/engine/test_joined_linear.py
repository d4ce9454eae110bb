"""Joined linear layers give what each gives alone, share its memory, and leave the model as it was."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.attach import attach
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.execution.joined_linear import JoinedLinear, LinearPart, join_linears
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from tests.helpers.engine import tiny_llama, tiny_qwen2, tiny_qwen3

JOINED = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"]


def parts_of(layer: nn.Module) -> list[str]:
    return [name for name, module in layer.named_modules() if isinstance(module, LinearPart)]


@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])
def test_parts_are_what_the_layers_give_and_the_layers_go_on_working(has_bias):
    layers = [nn.Linear(8, size, bias=has_bias) for size in (6, 2, 3)]
    inputs = torch.randn(5, 8)
    expected = [layer(inputs) for layer in layers]
    parts = JoinedLinear(layers).parts()
    for _ in range(2):
        for part, layer, result in zip(parts, layers, expected, strict=True):
            torch.testing.assert_close(part(inputs), result)
            torch.testing.assert_close(layer(inputs), result)


def test_weights_are_kept_once():
    layers = [nn.Linear(8, 6), nn.Linear(8, 2)]
    joined = JoinedLinear(layers)
    joined.weight.zero_()
    assert not layers[0].weight.any()
    assert not layers[1].weight.any()


@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])
def test_joining_again_takes_no_memory(has_bias):
    layers = [nn.Linear(8, size, bias=has_bias) for size in (6, 2, 3)]
    once, again = JoinedLinear(layers), JoinedLinear(layers)
    assert again.weight.data_ptr() == once.weight.data_ptr()
    assert torch.equal(again.weight, once.weight)
    if has_bias:
        assert again.bias.data_ptr() == once.bias.data_ptr()
    swapped = JoinedLinear([layers[1], layers[0]])
    assert swapped.weight.data_ptr() != once.weight.data_ptr()
    assert torch.equal(swapped.weight, torch.cat([once.weight[6:8], once.weight[:6]]))


def test_no_result_is_kept_once_all_have_been_handed_out():
    joined = JoinedLinear([nn.Linear(8, 6), nn.Linear(8, 2)])
    for part in joined.parts():
        part(torch.randn(1, 8))
    assert joined._results == ()


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen2, tiny_qwen3])
@pytest.mark.parametrize("starts", [[0], [0, 1]], ids=["one stage", "two stages"])
def test_layers_that_are_given_the_same_tensor_are_found_and_the_models_own_stay(make, starts):
    model = make()
    attach(model)
    parts = split(model, starts)
    assert join_linears(parts) == 3 * model.config.num_hidden_layers
    assert all(parts_of(layer) == JOINED for stage in parts for layer in stage.decoder.layers)
    assert not parts_of(model)


def test_a_layer_that_sees_another_tensor_in_between_is_left_alone():
    model = tiny_llama()
    attach(model)
    model.model.layers[0].mlp.register_forward_pre_hook(lambda module, inputs: (inputs[0].clone(),))
    for layer in model.model.layers:
        layer.self_attn.k_proj.weight.data = layer.self_attn.k_proj.weight.data.double()
        layer.self_attn.k_proj.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
        layer.self_attn.k_proj.register_forward_hook(lambda module, inputs, output: output.float())
    [stage] = split(model, [0])
    join_linears([stage])
    assert all(parts_of(layer) == JOINED[3:] for layer in stage.decoder.layers)


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen2, tiny_qwen3])
def test_an_engine_with_joined_layers_gives_the_tokens_of_the_reference_and_the_model_can_be_used_again(make):
    asked = [GenerationRequest([n, 3 * n % 90, 7], 12, TokenSet([5])) for n in range(10)]
    model = make()
    with contextlib.closing(GenerateEngine(model)) as reference:
        expected = [reference.generate(request) for request in asked]
    for _ in range(2):
        with contextlib.closing(PagedEngine(model, num_pages=80, page_size=8, join_linears=True)) as engine:
            futures = [engine.submit(request) for request in asked]
            assert [future.result(60) for future in futures] == expected
    with contextlib.closing(GenerateEngine(model)) as reference:
        assert [reference.generate(request) for request in asked] == expected


def test_all_weights_of_a_layer_move_together_and_none_is_kept_twice():
    model = tiny_llama()
    attach(model)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    [stage] = split(model, [0])
    join_linears([stage])
    layer = model.model.layers[0]
    alone = [layer.self_attn.o_proj, layer.mlp.down_proj]
    assert all(module.weight.untyped_storage().nbytes() == module.weight.nbytes for module in alone)
    rows = [layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]
    assert len({weight.untyped_storage().data_ptr() for weight in rows}) == 1
    assert rows[0].untyped_storage().nbytes() == sum(weight.nbytes for weight in rows)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
