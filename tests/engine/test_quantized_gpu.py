"""Weights in 8 bits on a GPU: products, compilation, CUDA graphs, whole generations, and what loading takes."""

from __future__ import annotations

import contextlib
from itertools import takewhile

import pytest
import torch
import torch._dynamo as dynamo
from transformers import AutoTokenizer

from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.demo.conversations import Renderer
from evaluation.toolbench.demo.corpus import demo_catalog
from evaluation.toolbench.demo.samples import demo_queries
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.quantized_linear import QuantizedLinear
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_checkpoint
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.toolgen.prompts import LAYOUTS
from tests.helpers.checkpoint import save_tiny_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"needs 1 GPU, found {torch.cuda.device_count()}"),
]
HAS_FP8 = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)
FORMATS = pytest.mark.parametrize(
    "weights",
    ["int8", pytest.param("fp8", marks=pytest.mark.skipif(not HAS_FP8, reason="this card has no float8"))],
)
FAST = {"compile_layers": True, "join_linears": True, "capture_at_start": True}


def layer(weights: str) -> QuantizedLinear:
    torch.manual_seed(0)
    exact = torch.randn(512, 256, device="cuda") / 16
    largest = {"int8": 127.0, "fp8": 448.0}[weights]
    scale = exact.abs().amax(dim=1, keepdim=True) / largest
    held = (exact / scale).round() if weights == "int8" else exact / scale
    return QuantizedLinear(held.to({"int8": torch.int8, "fp8": torch.float8_e4m3fn}[weights]), scale)


@FORMATS
def test_products_are_right_eager_compiled_and_captured(weights):
    dynamo.reset()
    linear = layer(weights)
    exact = linear.weight.float() * linear.scale
    compiled = torch.compile(linear, dynamic=True, fullgraph=True)
    with torch.inference_mode():
        for num_rows in (2, 1, 3, 17, 512):
            rows = torch.randn(1, num_rows, 256, device="cuda", dtype=torch.bfloat16)
            wanted = rows.float() @ exact.t()
            for product in (linear(rows), compiled(rows)):
                assert (product - wanted).norm() < 0.05 * wanted.norm()
        graph, rows = torch.cuda.CUDAGraph(), torch.randn(1, 8, 256, device="cuda", dtype=torch.bfloat16)
        compiled(rows)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            product = compiled(rows)
        rows.copy_(torch.randn_like(rows))
        graph.replay()
        assert torch.equal(product, compiled(rows))


def prompts() -> list[list[int]]:
    renderer = Renderer.of(demo_catalog(DATA_DIR), AutoTokenizer.from_pretrained(MODEL_DIR))
    queries = demo_queries()[::8]
    return [renderer.prompt(renderer.history(q.trajectory.question, (), LAYOUTS["upstream"])) for q in queries]


@FORMATS
def test_the_engine_says_what_generate_says_of_the_same_quantised_model(weights):
    """In float32 every token is equal; float8 computes in bfloat16, where a rounding may part two texts."""
    dynamo.reset()
    asked = [GenerationRequest(prompt, 24, TokenSet([])) for prompt in prompts()]
    model = load_model(str(MODEL_DIR), dtype="float32" if weights == "int8" else "auto", weights=weights)
    expected = [GenerateEngine(model).generate(request).token_ids for request in asked]
    with contextlib.closing(PagedEngine(model, num_pages=256, **FAST)) as engine:
        found = [future.result(120).token_ids for future in [engine.submit(request) for request in asked]]
        assert engine._runner.stages[0].graphs
    pairs = [list(zip(one, other, strict=True)) for one, other in zip(expected, found, strict=True)]
    equal = sum(len(list(takewhile(lambda both: both[0] == both[1], pair))) for pair in pairs)
    assert equal >= (1.0 if weights == "int8" else 0.9) * sum(map(len, expected))


@FORMATS
def test_the_card_never_holds_the_model_in_16_bits(tmp_path, weights):
    size = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12}
    folder = str(save_tiny_llama(tmp_path, **size))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model = load_model(folder, dtype="bfloat16", weights=weights)
    taken, peak = torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before
    planned = footprint_of_checkpoint(folder, weights=weights).weight_bytes
    assert taken == pytest.approx(planned, rel=0.02)
    assert peak < planned + 8 * 1024 * 4096 * 4 < footprint_of_checkpoint(folder).weight_bytes
    assert next(model.parameters()).is_cuda
    torch.cuda.empty_cache()  # what is left then lies between weights
    assert torch.cuda.memory_reserved() - torch.cuda.memory_allocated() < 0.1 * planned + 64 * 2**20
