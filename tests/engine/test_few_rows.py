"""Products of few rows: the kernel against float64, and where it is used."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch._dynamo as dynamo
from torch._dynamo.testing import CompileCounterWithBackend

from evaluation.toolbench.inference.engine.products.few_rows import plain_product, product
from evaluation.toolbench.inference.engine.products.tiles import MOST_ROWS, TILES, Tile, choose_tile
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


def test_odd_inputs_and_old_cards_are_left_to_cublas():
    assert choose_tile("16 bits", 1, 4096, 4099) is None
    assert choose_tile("16 bits", 1, 4096, 4096, on_old_card=True) is None
    assert choose_tile("int8", 2, 4096, 4096, on_old_card=True) is None
    assert choose_tile("int8", 1, 4096, 4096, on_old_card=True) is not None


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
