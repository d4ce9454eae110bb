"""Products with weights in 8 bits: the library's numbers, joined, compiled and served like any others."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.execution.joined_linear import JoinedLinear, LinearPart
from evaluation.toolbench.inference.engine.quantized_linear import (
    QuantizedLinear,
    float8_product,
    quantized_product,
    unpacked_bytes,
)
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.quantized_loading import quantize
from tests.helpers.engine import tiny_llama

RECIPES = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}
FORMATS = pytest.mark.parametrize("weights", RECIPES)


def library_layer(weights: str, out_features: int = 48, *, bias: bool = False) -> nn.Linear:
    torch.manual_seed(out_features)
    layer = nn.Linear(32, out_features, bias=bias)
    quantize_(layer, RECIPES[weights](set_inductor_config=False))
    return layer


def ours(layer: nn.Linear) -> QuantizedLinear:
    return QuantizedLinear(layer.weight.qdata, layer.weight.scale.reshape(-1, 1), layer.bias)


@FORMATS
@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])
def test_a_product_is_the_librarys(weights, has_bias):
    layer, inputs = library_layer(weights, bias=has_bias), torch.randn(2, 5, 32)
    torch.testing.assert_close(ours(layer)(inputs), layer(inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 3, 17])
def test_float8_activations_cost_a_few_percent_and_padding_stays_zero(num_rows):
    layer = ours(library_layer("fp8"))
    rows = torch.cat([torch.randn(num_rows, 32) * 100, torch.zeros(2, 32)]).bfloat16()
    product = float8_product(rows, layer.weight, layer.scale)
    exact = quantized_product(rows.float(), layer.weight, layer.scale, None)
    assert product.dtype == torch.bfloat16
    assert (product - exact).norm() < 0.05 * exact.norm()
    assert not product[num_rows:].any()


def test_sums_beyond_float16_do_not_overflow_before_they_are_scaled():
    weight = torch.full((16, 4096), 127, dtype=torch.int8)
    product = quantized_product(torch.full((1, 4096), 8.0).half(), weight, torch.full((16, 1), 1e-3 / 127), None)
    torch.testing.assert_close(product, torch.full((1, 16), 8 * 4096e-3).half(), rtol=1e-2, atol=0)


@FORMATS
def test_joined_products_are_the_separate_ones_and_share_their_memory(weights):
    layers = [ours(library_layer(weights, size)) for size in (48, 16, 32)]
    inputs = torch.randn(5, 32)
    expected = [layer(inputs) for layer in layers]
    joined = JoinedLinear(layers)
    for part, layer, result in zip(joined.parts(), layers, expected, strict=True):
        torch.testing.assert_close(part(inputs), result)
        assert torch.equal(layer(inputs), result)
    layers[1].scale.zero_()
    assert not joined.scale[48:64].any()
    assert joined.weight.dtype == layers[0].weight.dtype
    assert JoinedLinear(layers).weight.data_ptr() == joined.weight.data_ptr()


@pytest.mark.parametrize(
    ("weights", "product", "dtype"),
    [
        ("int8", lambda rows, layer: layer(rows), torch.float32),
        ("fp8", lambda rows, layer: layer(rows), torch.float32),
        ("fp8", lambda rows, layer: float8_product(rows, layer.weight, layer.scale), torch.bfloat16),
    ],
)
def test_products_compile_whole_for_any_number_of_rows(weights, product, dtype):
    layer = ours(library_layer(weights))
    compiled = torch.compile(product, backend="aot_eager", dynamic=True, fullgraph=True)
    with torch.inference_mode():
        for num_rows in (2, 1, 7, 64):
            rows = torch.randn(num_rows, 32, dtype=dtype)
            assert torch.equal(compiled(rows, layer), product(rows, layer))


@FORMATS
def test_the_engines_agree_on_a_quantised_model_joined_and_with_a_shared_prefix(weights):
    model = tiny_llama()
    quantize(model, weights, footprint_of_config(model.config, torch.float32, weights=weights))
    prompt = [token % model.config.vocab_size for token in range(7, 60)]
    requests = [GenerationRequest([*prompt, last], 20, TokenSet([])) for last in (1, 2)]
    expected = [GenerateEngine(model).generate(request).token_ids for request in requests]
    engine = PagedEngine(model, join_linears=True, page_size=8)
    joined = [module for stage in engine._runner.stages for module in stage.stage.decoder.modules()]
    assert sum(isinstance(module, LinearPart) for module in joined) == 10  # five in each of two layers
    assert [engine.generate(request).token_ids for request in requests] == expected
    engine.close()
    assert [GenerateEngine(model).generate(request).token_ids for request in requests] == expected


def test_a_step_keeps_room_for_weights_that_it_unpacks():
    model = tiny_llama()
    assert unpacked_bytes(model, 4) == 0
    quantize(model, "int8", footprint_of_config(model.config, torch.float32, weights="int8"))
    assert unpacked_bytes(model, 4) == 4 * 48 * 32 * 4
