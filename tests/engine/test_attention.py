"""Attention over pages: the plain PyTorch path and the Triton kernels against attention spelled out in float64."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.attention import paged_attention
from evaluation.toolbench.inference.engine.kernels.availability import triton_works
from evaluation.toolbench.inference.errors import EngineError
from tests.helpers.attention import check_write, exact_attention, in_float8, paged_batch, relative_error
from tests.helpers.attention_kernel_cases import CASES, INTERPRETED, TOLERANCE, Case, error_of
from tests.helpers.triton_interpreter import interpreted, run_interpreted

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Contexts and how many of their tokens are new; some rows are padding."""
    contexts = draw(st.lists(st.integers(0, 70), min_size=1, max_size=5))
    return contexts, [draw(st.integers(1, context)) if context else 1 for context in contexts]


@given(rows(), st.sampled_from([(1, 1), (4, 2), (7, 1), (6, 2)]), st.sampled_from([1, 4, 16, 24]), st.booleans())
def test_plain_attention_equals_attention_spelled_out(batch_rows, heads, page_size, is_float8):
    batch = paged_batch(
        *batch_rows, num_heads=heads[0], num_kv_heads=heads[1], page_size=page_size, head_dim=8, dtype=torch.float64
    )
    if is_float8:
        batch = in_float8(batch)
    found = paged_attention(*batch.arguments(), kv_scales=batch.kv_scales)
    torch.testing.assert_close(found, exact_attention(batch))


def test_the_result_can_be_written_in_place():
    batch = paged_batch([5, 30], [2, 1])
    out = torch.full_like(batch.q, float("nan"))
    assert paged_attention(*batch.arguments(), out) is out
    assert relative_error(out, exact_attention(batch)) < 1e-6


def test_new_keys_and_values_land_in_their_slots_and_padding_nowhere():
    check_write("cpu", "reference")


def test_a_page_size_that_the_kernels_cannot_serve_is_an_error():
    batch = paged_batch([5], [1], page_size=24)
    with pytest.raises(EngineError, match="power of two on a GPU, not 24"):
        paged_attention(*batch.arguments(), implementation="triton")


@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton is not installed")
def test_where_triton_cannot_compile_there_is_a_warning_and_no_kernel(monkeypatch, caplog):
    from evaluation.toolbench.inference.engine.kernels import triton_probe

    def fail(*_):
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    monkeypatch.setattr(triton_probe, "copy_numbers", fail)
    triton_works.cache_clear()
    assert not triton_works(torch.device("cpu"))
    assert not triton_works(torch.device("cpu"))
    triton_works.cache_clear()
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["Failed to find C compiler."]


@pytest.mark.gpu
@needs_gpu
def test_triton_works_on_this_gpu():
    assert triton_works(torch.device("cuda"))


@pytest.fixture(scope="module")
def interpreted_errors() -> dict[str, float]:
    """Errors under Triton's interpreter, {case name and way: relative error}; writes are checked too."""
    return json.loads(run_interpreted("attention_kernel_cases.py"))


@interpreted
@pytest.mark.timeout(1200)  # all cases take a minute of a core
@pytest.mark.parametrize(
    ("way", "case"),
    [pytest.param(way, case, id=f"{case.name}, {way}") for way, cases in INTERPRETED.items() for case in cases],
)
def test_interpreted_kernels_equal_attention_spelled_out(way, case, interpreted_errors):
    assert interpreted_errors[f"{case.name}, {way}"] < TOLERANCE[torch.float32 if way == "float32" else torch.float16]


@interpreted
@pytest.mark.timeout(1200)
def test_interpreted_prompts_in_parts_equal_attention_spelled_out():
    run_interpreted("attention_kernel_cases.py", "split")


def use_tiles_of_old_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    from evaluation.toolbench.inference.engine.attention import triton_decode, triton_prefill

    for module in (triton_decode, triton_prefill):
        monkeypatch.setattr(module, "is_old", lambda device: True)


GPU_CASES = [
    *CASES,
    *(Case((1800, 1, 0, 77), page_size=size, num_heads=32, num_kv_heads=8, head_dim=128) for size in (16, 64, 256)),
    Case((1800,), page_size=64, num_heads=28, num_kv_heads=4, head_dim=128),
    Case((6000, 300), page_size=64, num_heads=14, num_kv_heads=2, head_dim=64),
    Case((900, 300), (300, 300), page_size=64, num_heads=32, num_kv_heads=8, head_dim=128),
    Case((900, 300), (40, 1), page_size=16, num_heads=28, num_kv_heads=4, head_dim=128),
    Case((200, 500), (200, 20), page_size=64, num_heads=8, num_kv_heads=8, head_dim=256),
]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", GPU_CASES, ids=lambda case: case.name)
def test_kernels_equal_attention_spelled_out(case, dtype):
    assert error_of(case, dtype, "cuda") < TOLERANCE[dtype]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", GPU_CASES, ids=lambda case: case.name)
def test_the_tiles_of_old_cards_give_the_same(case, dtype, monkeypatch):
    use_tiles_of_old_cards(monkeypatch)
    assert error_of(case, dtype, "cuda") < TOLERANCE[dtype]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", GPU_CASES, ids=lambda case: case.name)
def test_kernels_read_8_bit_pages(case, dtype):
    assert error_of(case, dtype, "cuda", is_float8=True) < TOLERANCE[dtype]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("case", GPU_CASES, ids=lambda case: case.name)
def test_cards_without_instructions_for_8_bits_read_the_same(case, monkeypatch):
    from evaluation.toolbench.inference.engine.attention import triton_decode, triton_prefill

    for module in (triton_decode, triton_prefill):
        monkeypatch.setattr(module, "converts_float8", lambda device: False)
    assert error_of(case, torch.float16, "cuda", is_float8=True) < TOLERANCE[torch.float16]


SPLIT_CASES = [
    Case((8000, 30, 40, 500, 20), (8, 30, 16, 4, 20), page_size=64, num_heads=32, num_kv_heads=8, head_dim=128),
    Case((1800,), (208,), page_size=64, num_heads=32, num_kv_heads=8, head_dim=128),
    Case((511, 512, 513, 0), (2, 9, 33, 0), padding=20, page_size=64, num_heads=32, num_kv_heads=8, head_dim=128),
    Case((2000,), (5,), page_size=16, num_heads=28, num_kv_heads=4, head_dim=128),
]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("is_float8", [False, True], ids=["16 bits", "8 bits"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", SPLIT_CASES, ids=lambda case: case.name)
def test_prompts_in_parts_equal_attention_spelled_out(case, dtype, is_float8):
    assert error_of(case, dtype, "cuda", is_float8=is_float8) < TOLERANCE[dtype]


@pytest.mark.gpu
@needs_gpu
def test_kernels_store_keys_and_values():
    check_write("cuda", "triton")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("new_tokens", [[1, 1, 1], [1, 30, 2]], ids=["decode", "mixed"])
def test_a_captured_graph_serves_other_contexts(new_tokens):
    shape = {"num_heads": 8, "num_kv_heads": 2, "head_dim": 128, "dtype": torch.float16, "device": "cuda"}
    batch = paged_batch([100, 300, 40], new_tokens, **shape)
    other = paged_batch([290, 35, 20], new_tokens, seed=1, **shape)
    pages = max(len(batch.k_cache), len(other.k_cache))
    arguments = list(batch.arguments())
    for index in (1, 2):  # room for the pages of both
        arguments[index] = arguments[index].new_zeros(pages, *arguments[index].shape[1:])
    columns = max(batch.block_tables.shape[1], other.block_tables.shape[1])
    arguments[3] = batch.block_tables.new_zeros(len(new_tokens), columns)
    arguments[4] = torch.zeros_like(batch.context_lens)
    paged_attention(*arguments)  # compiled before the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = paged_attention(*arguments)
    for replayed in (batch, other):
        for held, given_now in zip(arguments[:6], replayed.arguments()[:6], strict=True):
            held[tuple(slice(size) for size in given_now.shape)] = given_now
        graph.replay()
        assert relative_error(out, exact_attention(replayed)) < TOLERANCE[torch.float16]


@pytest.mark.gpu
@needs_gpu
def test_flash_attention_serves_prompts_without_a_prefix():
    batch = paged_batch(
        [90, 1, 300], [90, 1, 300], num_heads=8, num_kv_heads=2, head_dim=128, dtype=torch.bfloat16, device="cuda"
    )
    pages = [batch.block_tables[row, : -(-n // 16)].long() for row, n in enumerate((90, 1, 300))]
    new_kv = tuple(
        torch.cat([cache[held].flatten(0, 1)[:n] for held, n in zip(pages, (90, 1, 300), strict=True)])
        for cache in (batch.k_cache, batch.v_cache)
    )
    result = paged_attention(*batch.arguments(), new_kv=new_kv, implementation="varlen")
    assert relative_error(result, exact_attention(batch)) < TOLERANCE[torch.bfloat16]
