"""Products of few rows: the kernel against float64, where it is used, and the tokens of an engine that uses it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch._dynamo as dynamo
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.attach import attach
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.execution.few_rows_linear import FewRowsLinear, use_few_rows
from evaluation.toolbench.inference.engine.paged.execution.joined_linear import LinearPart, join_linears
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.products import few_rows
from evaluation.toolbench.inference.engine.products.few_rows import plain_product, product
from evaluation.toolbench.inference.engine.products.tiles import MOST_ROWS, TILES, Tile, choose_tile
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.quantized_loading import quantize
from tests.helpers.engine import tiny_llama, tiny_qwen2, tiny_qwen3
from tests.helpers.few_rows_cases import CASES, TOLERANCE, Case, error_of, operands

IS_INTERPRETED = not torch.cuda.is_available() and importlib.util.find_spec("triton")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@pytest.fixture(scope="module")
def interpreted_errors() -> dict[str, float]:
    """Errors of all cases under Triton's interpreter, {case name and dtype: relative error}."""
    script = Path(__file__).parents[1] / "helpers/few_rows_cases.py"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(script.parents[2])}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not IS_INTERPRETED, reason="the kernel runs on the GPU here, or triton is not installed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_interpreted_kernel_gives_the_product(case, dtype, interpreted_errors):
    assert interpreted_errors[f"{case.name}, {dtype}"] < TOLERANCE[dtype]


@pytest.mark.parametrize("held", ["16 bits", "int8", "fp8"])
@pytest.mark.parametrize("rows", [1, 3, MOST_ROWS, MOST_ROWS + 1])
def test_without_a_gpu_every_product_is_pytorchs(held, rows):
    inputs, *weight = operands(Case(held, rows, 24, 32, Tile(8, 16, 32, 4, 2), has_bias=True), torch.bfloat16, "cpu")
    inputs = inputs.unsqueeze(0)
    assert torch.equal(product(inputs, *weight), plain_product(inputs, *weight))


def test_a_compiler_makes_a_version_for_one_row_one_for_few_and_one_for_many():
    dynamo.reset()
    weight = torch.randn(24, 32).bfloat16()
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda rows: product(2 * rows, weight, None, None).sin(), dynamic=True, backend=counted)
    with torch.inference_mode():
        for num_rows in (2, 5, MOST_ROWS, 1, MOST_ROWS + 1, 64, 1, 3, 1000):
            rows = torch.randn(1, num_rows, 32).bfloat16()
            torch.testing.assert_close(compiled(rows), plain_product(2 * rows, weight, None, None).sin())
    assert counted.frame_count == 3
    few, one, many = (str(graph.graph) for graph in counted.graphs)
    assert "few_rows_product" in few
    assert "few_rows_product" in one
    assert "few_rows_product" not in many


def test_the_operation_is_what_a_compiler_is_told_of_it():
    case = Case("int8", 3, 24, 32, Tile(8, 16, 32, 4, 2), has_bias=True)
    inputs, *weight = operands(case, torch.bfloat16, "cpu")
    torch.library.opcheck(torch.ops.toolgen.few_rows_product.default, (inputs.unsqueeze(0), *weight))


def test_a_tile_holds_the_rows_that_it_is_chosen_for():
    for held, _ in TILES:
        for rows in range(1, MOST_ROWS + 1):
            for features in (4096, 28_672):
                tile = choose_tile(held, rows, features, 4096)
                assert tile is None or tile.rows >= rows


def test_many_rows_odd_inputs_and_old_cards_are_left_to_cublas():
    assert choose_tile("int8", MOST_ROWS + 1, 4096, 4096) is None
    assert choose_tile("16 bits", 1, 4096, 4099) is None
    assert choose_tile("16 bits", 1, 4096, 4096, on_old_card=True) is None
    assert choose_tile("int8", 2, 4096, 4096, on_old_card=True) is None
    assert choose_tile("int8", 1, 4096, 4096, on_old_card=True) is not None


def requests(count: int) -> list[GenerationRequest]:
    return [GenerationRequest([n + 1, 3 * n % 90, 7] * (1 + 5 * (n % 3)), 12, TokenSet([5])) for n in range(count)]


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen2, tiny_qwen3])
@pytest.mark.parametrize("starts", [[0], [0, 1]], ids=["one stage", "two stages"])
def test_every_linear_layer_of_the_stages_multiplies_few_rows_and_the_models_own_stay(make, starts):
    model = make()
    attach(model)
    stages = split(model, starts)
    join_linears(stages)
    use_few_rows(stages)
    changed = [module for stage in stages for layer in stage.decoder.layers for module in layer.modules()]
    assert not [module for module in changed if type(module) is nn.Linear]
    parts = [module for module in changed if isinstance(module, LinearPart)]
    assert all(part.joined.product is product for part in parts)
    assert [sum(isinstance(module, kind) for module in changed) for kind in (LinearPart, FewRowsLinear)] == [10, 4]
    assert sum(type(module) is nn.Linear for module in model.model.layers.modules()) == 14


@pytest.mark.parametrize("options", [{"join_linears": True}, {"join_linears": False}], ids=["joined", "separate"])
@pytest.mark.parametrize("weights", ["auto", "int8", "fp8"])
def test_an_engine_with_it_gives_the_tokens_of_the_reference(weights, options):
    model = tiny_qwen2()
    if weights != "auto":
        pytest.importorskip("torchao")
        quantize(model, weights, footprint_of_config(model.config, torch.float32, weights=weights))
    with contextlib.closing(GenerateEngine(model)) as reference:
        expected = [reference.generate(request) for request in requests(6)]
    for _ in range(2):  # the second engine finds the model as the first one did
        with contextlib.closing(PagedEngine(model, num_pages=80, page_size=8, few_rows=True, **options)) as engine:
            futures = [engine.submit(request) for request in requests(6)]
            assert [future.result(60) for future in futures] == expected


LARGE_CASES = [
    Case(held, rows, features, 14_336, tile)
    for held, limit in TILES
    for rows in {1, limit}
    for features in (4096, 46_985)
    if (tile := choose_tile(held, limit, features, 14_336))
]
GPU_CASES = [
    *((case, torch.bfloat16) for case in [*CASES, *LARGE_CASES]),
    *((case, dtype) for case in CASES[::5] for dtype in (torch.float16, torch.float32)),
]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("case", "dtype"), GPU_CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_the_kernel_on_a_gpu_gives_the_product(case, dtype):
    assert error_of(case, dtype, "cuda") < TOLERANCE[dtype]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("held", ["16 bits", "int8", "fp8"])
def test_products_compiled_and_captured_are_right_for_any_number_of_rows(held):
    dynamo.reset()
    case = Case(held, MOST_ROWS, 512, 256, Tile(8, 16, 32, 4, 2), has_bias=True)
    inputs, weight, scale, bias = operands(case, torch.bfloat16, "cuda")
    compiled = torch.compile(product, dynamic=True, fullgraph=True)
    exact = inputs.float() @ (weight.float() if scale is None else weight.float() * scale).t() + bias.float()
    with torch.inference_mode():
        for num_rows in (1, 2, 9, MOST_ROWS):
            rows = inputs[:num_rows].clone()
            compiled(rows, weight, scale, bias)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = compiled(rows, weight, scale, bias)
            rows.copy_(inputs[-num_rows:])
            graph.replay()
            assert (found - exact[-num_rows:]).norm() < 8e-3 * exact[-num_rows:].norm()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("weights", ["auto", "int8"])
@pytest.mark.parametrize("count", [1, 6, 30])
def test_an_engine_on_a_gpu_gives_the_tokens_of_the_reference_in_float32(monkeypatch, weights, count):
    """In float32 every token is equal; a tile that fits a tiny model stands for those that are chosen."""
    dynamo.reset()
    launched = []

    def small_tile(rows: torch.Tensor, weight: torch.Tensor) -> Tile:
        launched.append(len(rows))
        return Tile(1 if len(rows) == 1 else MOST_ROWS, 16, 16, 2, 2)

    monkeypatch.setattr(few_rows, "tile_for", small_tile)
    model = tiny_qwen2().cuda()
    if weights != "auto":
        pytest.importorskip("torchao")
        quantize(model, weights, footprint_of_config(model.config, torch.float32, weights=weights))
    with contextlib.closing(GenerateEngine(model)) as reference:
        expected = [reference.generate(request) for request in requests(count)]
    assert not launched
    options = {"compile_layers": True, "join_linears": True, "few_rows": True}
    with contextlib.closing(PagedEngine(model, num_pages=300, page_size=16, **options)) as engine:
        futures = [engine.submit(request) for request in requests(count)]
        assert [future.result(120) for future in futures] == expected
        assert engine._runner.stages[0].graphs
    assert launched
