"""Keys and values in 8 bits: how close they come back, what they take, and that pages copied for branches keep them."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.kernels.float8 import LARGEST, LIMIT, dequantize, quantize
from evaluation.toolbench.inference.engine.paged.attach import LayerShape
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.request import ScoringRequest
from evaluation.toolbench.inference.errors import ConfigError
from tests.helpers.attention import check_float8_write
from tests.helpers.engine import VOCAB_SIZE, attending_in_float8, tiny_llama

PAGE_SIZE = 8

numbers = st.floats(-LIMIT, LIMIT, width=32)
vectors = st.lists(numbers, min_size=1, max_size=24)


@given(vectors)
def test_a_number_comes_back_within_a_sixteenth_or_a_thousandth_of_the_scale(vector):
    given_vector = torch.tensor(vector)
    codes, scale = quantize(given_vector)
    error = (dequantize(codes, scale) - given_vector).abs()
    bound = torch.maximum(given_vector.abs() / 16, scale / 1024)
    assert (error <= bound * (1 + 1e-6)).all()
    assert scale >= given_vector.abs().max() / LARGEST * (1 - 1e-6)


@given(vectors)
def test_what_has_been_through_8_bits_comes_back_unchanged_the_next_time(vector):
    once = dequantize(*quantize(torch.tensor(vector)))
    torch.testing.assert_close(dequantize(*quantize(once)), once, rtol=1e-6, atol=1e-30)


def test_zeros_come_back_as_zeros_the_infinite_as_the_largest_and_nan_throughout():
    infinite = torch.tensor([torch.inf, -1e9, 0.0])
    assert dequantize(*quantize(torch.zeros(2, 3))).tolist() == [[0.0] * 3] * 2
    torch.testing.assert_close(dequantize(*quantize(infinite)), torch.tensor([LIMIT, -LIMIT, 0.0]))
    assert dequantize(*quantize(torch.tensor([1.0, torch.nan, 2.0]))).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_written_codes_and_scales_land_in_their_slots_and_padding_nowhere(dtype):
    check_float8_write("cpu", "reference", dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_writes_the_same_codes_and_scales(dtype):
    check_float8_write("cuda", "triton", dtype)


def test_a_page_takes_little_more_than_half():
    bfloat16 = LayerShape(torch.device("cpu"), torch.bfloat16, num_kv_heads=8, head_dim=128)
    float8 = LayerShape(torch.device("cpu"), torch.bfloat16, num_kv_heads=8, head_dim=128, is_float8=True)
    assert bfloat16.page_bytes(64) == 2 * 64 * 8 * 128 * 2
    assert float8.page_bytes(64) == 2 * 64 * 8 * (128 + 4)  # a byte a number, and a float32 scale
    # Of 2 layers with 2 heads of 8 numbers each, which are 12 bytes with their scale and 32 in float32.
    room = 10 * 2 * PAGE_SIZE * 2 * 2 * 12
    with contextlib.closing(
        PagedEngine(tiny_llama(), page_size=PAGE_SIZE, max_kv_bytes=room, kv_cache="fp8")
    ) as engine:
        assert engine.kv_tokens() == 10 * PAGE_SIZE


@pytest.mark.parametrize("overlap", [False, True])
def test_branches_of_a_prompt_have_its_scales_too(overlap):
    """The last page of the prompt is copied for each branch; what was said of one in full is said of the other."""
    prompt = [(7 * n) % VOCAB_SIZE for n in range(2 * PAGE_SIZE + 5)]
    options = {"num_pages": 64, "page_size": PAGE_SIZE, "overlap": overlap, "kv_cache": "fp8"}
    with contextlib.closing(PagedEngine(tiny_llama(), **options)) as engine:
        engine.score(ScoringRequest(prompt, 5, conversation_id="q")).result()
        before = engine.counts().prefill_tokens
        branches = [engine.score(ScoringRequest([*prompt, token], 4, parent_id="q")) for token in range(20)]
        found = [branch.result() for branch in branches]
        assert engine.counts().prefill_tokens - before == 20
    model = attending_in_float8(tiny_llama())
    for token, result in enumerate(found):
        with torch.inference_mode():
            values = model(torch.tensor([[*prompt, token]])).logits[0, -1].log_softmax(dim=-1)
        best = values.topk(4)
        assert list(result.token_ids) == best.indices.tolist()
        np.testing.assert_allclose(result.log_probabilities, best.values.tolist(), atol=1e-3)


def test_pages_in_8_bits_change_what_comes_out():
    """Else the other tests would compare the model with itself."""
    prompt = list(range(40))
    results = []
    for kv_cache in ("auto", "fp8"):
        with contextlib.closing(PagedEngine(tiny_llama(), num_pages=16, page_size=8, kv_cache=kv_cache)) as engine:
            engine.score(ScoringRequest(prompt[:30], 5, conversation_id="q")).result()
            results.append(engine.score(ScoringRequest(prompt, 5, conversation_id="q")).result().log_probabilities)
    assert results[0] != pytest.approx(results[1], abs=1e-4)


def test_an_unknown_format_is_refused_and_so_is_an_engine_without_pages():
    with pytest.raises(ConfigError, match="kv_cache='int4' is not one of auto, fp8"):
        PagedEngine(tiny_llama(), kv_cache="int4")
    with pytest.raises(ConfigError, match=r"--kv_cache fp8 with --engine generate: .* use --engine paged"):
        make_engine("generate", tiny_llama(), kv_cache="fp8")
    with pytest.raises(ConfigError, match=r"--engine server: .*vLLM: --kv-cache-dtype fp8"):
        make_engine("server", None, kv_cache="fp8")
