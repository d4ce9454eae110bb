"""Products by our kernels: against float64, where they are used, and the tokens of an engine that uses them."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
import torch._dynamo as dynamo
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.attach import attach
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.execution import few_rows_linear
from evaluation.toolbench.inference.engine.paged.execution.few_rows_linear import FewRowsLinear, use_few_rows
from evaluation.toolbench.inference.engine.paged.execution.joined_linear import LinearPart, join_linears
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.products import few_rows
from evaluation.toolbench.inference.engine.products.few_rows import plain_product, product
from evaluation.toolbench.inference.engine.products.tiles import (
    INT8_TILES,
    TILES,
    ManyRowsTile,
    Tile,
    choose_tile,
    most_rows,
)
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.quantized_loading import quantize
from tests.helpers.engine import tiny_llama, tiny_qwen2, tiny_qwen3
from tests.helpers.few_rows_cases import CASES, TOLERANCE, Case, error_of, operands
from tests.helpers.triton_interpreter import interpreted, run_interpreted

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@pytest.fixture(scope="module")
def interpreted_errors() -> dict[str, float]:
    """Errors of all cases under Triton's interpreter, {case name and dtype: relative error}."""
    return json.loads(run_interpreted("few_rows_cases.py"))


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_interpreted_kernel_gives_the_product(case, dtype, interpreted_errors):
    assert interpreted_errors[f"{case.name}, {dtype}"] < TOLERANCE[dtype]


@pytest.mark.parametrize("held", ["16 bits", "int8", "fp8"])
@pytest.mark.parametrize("rows", [1, 3, 16, 17])
def test_where_the_kernel_does_not_run_the_operation_is_pytorchs_product(held, rows):
    inputs, *weight = operands(Case(held, rows, 24, 32, Tile(8, 16, 32, 4, 2), has_bias=True), torch.bfloat16, "cpu")
    inputs = inputs.unsqueeze(0)
    assert torch.equal(product(inputs, *weight, few_rows=16), plain_product(inputs, *weight))


def test_a_compiler_makes_a_version_for_one_row_one_for_few_and_one_for_many():
    dynamo.reset()
    weight = torch.randn(24, 32).bfloat16()
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda rows: product(2 * rows, weight, None, None, 16), dynamic=True, backend=counted)
    with torch.inference_mode():
        for num_rows in (2, 5, 16, 1, 17, 64, 1, 3, 1000):
            rows = torch.randn(1, num_rows, 32).bfloat16()
            torch.testing.assert_close(compiled(rows), plain_product(2 * rows, weight, None, None))
    assert counted.frame_count == 3
    few, one, many = (str(graph.graph) for graph in counted.graphs)
    assert "few_rows_product" in few
    assert "few_rows_product" in one
    assert "few_rows_product" not in many


def test_of_int8_a_compiler_makes_a_version_for_one_row_and_one_for_any_other_number():
    dynamo.reset()
    inputs, weight, scale, bias = operands(Case("int8", 1000, 24, 32, Tile(8, 16, 32, 4, 2)), torch.bfloat16, "cpu")
    any_number = most_rows("int8", *weight.shape)
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(
        lambda rows: product(2 * rows, weight, scale, bias, any_number), dynamic=True, backend=counted
    )
    with torch.inference_mode():
        for num_rows in (2, 17, 1, 64, 1000):
            torch.testing.assert_close(
                compiled(inputs[:num_rows]), plain_product(2 * inputs[:num_rows], weight, scale, bias)
            )
    assert counted.frame_count == 2
    assert all("few_rows_product" in str(graph.graph) for graph in counted.graphs)


def test_the_operation_is_what_a_compiler_is_told_of_it():
    case = Case("int8", 3, 24, 32, Tile(8, 16, 32, 4, 2), has_bias=True)
    inputs, *weight = operands(case, torch.bfloat16, "cpu")
    torch.library.opcheck(torch.ops.toolgen.few_rows_product.default, (inputs.unsqueeze(0), *weight))


@pytest.mark.parametrize("features", [4096, 28_672])
@pytest.mark.parametrize("held", ["16 bits", "int8", "fp8"])
@pytest.mark.parametrize("is_old", [False, True])
def test_a_tile_holds_the_rows_that_it_is_chosen_for_and_there_is_none_for_more(held, features, is_old):
    most = most_rows(held, features, 4096, on_old_card=is_old)
    for rows in range(1, 2 * max(rows for _, rows in TILES)):
        tile = choose_tile(held, rows, features, 4096, on_old_card=is_old)
        if rows <= most:
            assert tile is None or isinstance(tile, ManyRowsTile) or tile.rows >= rows
        else:
            assert tile is None
    assert most > 0 or (is_old and held == "16 bits")


def test_odd_inputs_are_left_to_cublas():
    assert most_rows("16 bits", 4096, 4099) == 0
    assert most_rows("int8", 4096, 4099) == 0


@pytest.mark.parametrize("shared_bytes", [101_376, 166_912, 232_448])
def test_of_int8_any_number_of_rows_has_a_tile_of_stages_that_fit_the_card(shared_bytes):
    for rows in (65, 128, 129, 1500, 100_000):
        for features in (4096, 28_672):
            tile = choose_tile("int8", rows, features, 4096, shared_bytes=shared_bytes)
            assert isinstance(tile, ManyRowsTile)
            assert 0 < tile.num_stages * tile.stage_bytes <= shared_bytes


def test_without_a_gpu_no_row_is_for_the_kernel():
    weight = torch.zeros(32, 32, dtype=torch.int8)
    assert few_rows.most_rows(weight, torch.bfloat16) == 0


def _unpacking(rows, weight, scale, bias, out=None):
    return plain_product(rows, weight, scale, bias)


def _wrong(rows, weight, scale, bias, out=None):
    return plain_product(rows, weight, scale, bias) + 1000 * (len(weight) > 10_000)


def _raising(rows, weight, scale, bias, out=None):
    raise RuntimeError("out of resource\nmore of it")


@pytest.mark.parametrize(
    ("kernel", "agrees", "why"),
    [
        (_unpacking, True, ""),
        (_wrong, False, "16400 features does not work (it is wrong)"),
        (_raising, False, "out of resource)"),
    ],
)
def test_a_kernel_of_many_rows_that_does_not_work_is_left_out_in_one_line(monkeypatch, caplog, kernel, agrees, why):
    monkeypatch.setattr(few_rows, "by_kernel", kernel)
    few_rows.many_rows_agree.cache_clear()
    assert few_rows.many_rows_agree(torch.device("cpu"), torch.bfloat16) is agrees
    few_rows.many_rows_agree.cache_clear()
    assert [why in record.getMessage() for record in caplog.records] == [True] * (not agrees)


@pytest.fixture
def always_few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Up to how many rows products are those of the kernel, whatever it is fast at."""
    monkeypatch.setattr(few_rows_linear, "most_rows", lambda weight, dtype: 16)
    return 16


def requests(count: int) -> list[GenerationRequest]:
    return [GenerationRequest([n + 1, 3 * n % 90, 7] * (1 + 5 * (n % 3)), 12, TokenSet([5])) for n in range(count)]


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen2, tiny_qwen3])
@pytest.mark.parametrize("starts", [[0], [0, 1]], ids=["one stage", "two stages"])
def test_every_linear_layer_of_the_stages_multiplies_few_rows_and_the_models_own_stay(make, starts, always_few):
    model = make()
    attach(model)
    stages = split(model, starts)
    join_linears(stages)
    use_few_rows(stages)
    changed = [module for stage in stages for layer in stage.decoder.layers for module in layer.modules()]
    assert not [module for module in changed if type(module) is nn.Linear]
    parts = [module for module in changed if isinstance(module, LinearPart)]
    assert all(part.joined.few_rows == always_few for part in parts)
    assert [sum(isinstance(module, kind) for module in changed) for kind in (LinearPart, FewRowsLinear)] == [10, 4]
    assert sum(type(module) is nn.Linear for module in model.model.layers.modules()) == 14


@pytest.mark.parametrize("options", [{"join_linears": True}, {"join_linears": False}], ids=["joined", "separate"])
@pytest.mark.parametrize("weights", ["auto", "int8", "fp8"])
@pytest.mark.usefixtures("always_few")
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
    *(
        Case("int8", rows, features, 14_336, choose_tile("int8", rows, features, 14_336), has_bias=True)
        for rows in (most - 3 for most in INT8_TILES)
        for features in (4096, 46_985)
    ),
    *(
        Case(held, rows, features, 14_336, tile)
        for held, most in TILES
        for rows in {1, most}
        for features in (4096, 46_985)
        if (tile := choose_tile(held, most, features, 14_336))
    ),
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
    counts = {"16 bits": (1, 2, 8), "int8": (1, 9, 16, 17, 100, 200), "fp8": (1, 2, 9, 16)}[held]
    case = Case(held, max(counts), 512, 256, Tile(8, 16, 32, 4, 2), has_bias=True)
    inputs, weight, scale, bias = operands(case, torch.bfloat16, "cuda")
    few = few_rows.most_rows(weight, torch.bfloat16)
    compiled = torch.compile(lambda *given: product(*given, few_rows=few), dynamic=True, fullgraph=True)
    exact = inputs.float() @ (weight.float() if scale is None else weight.float() * scale).t() + bias.float()
    with torch.inference_mode():
        for num_rows in counts:
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
@pytest.mark.usefixtures("always_few")
def test_an_engine_on_a_gpu_gives_the_tokens_of_the_reference_in_float32(monkeypatch, weights, count):
    """In float32 every token is equal; a tile that fits a tiny model stands for those that are chosen."""
    dynamo.reset()
    launched = []

    def small_tile(rows: torch.Tensor, weight: torch.Tensor) -> Tile | None:
        if len(rows) > 16:
            return None
        launched.append(len(rows))
        return Tile(1 if len(rows) == 1 else 16, 16, 16, 2, 2)

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
