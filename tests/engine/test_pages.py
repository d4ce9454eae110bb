"""The page pool and the names of pages."""

from __future__ import annotations

import functools

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.paged.attach import LayerShape
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache, count_pages
from evaluation.toolbench.inference.engine.paged.pages import PagePool, extend_names
from evaluation.toolbench.inference.engine.paged.prefix import common_length
from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.multi_gpu.units import GIB

tokens = st.lists(st.integers(0, 3), max_size=40)


def test_a_page_is_free_when_its_last_holder_gives_it_back():
    pool = PagePool(2, 4)
    [page] = pool.take(1)
    pool.share(page)
    pool.give_back([page])
    assert (pool.num_free, pool.is_free(page), pool.is_shared(page)) == (1, False, False)
    pool.give_back([page])
    assert (pool.num_free, pool.is_free(page)) == (2, True)
    with pytest.raises(ValueError, match="nobody holds"):
        pool.give_back([page])


def test_more_pages_than_are_free_cannot_be_taken():
    pool = PagePool(2, 4)
    with pytest.raises(ValueError, match="3 pages asked for, 2 of 2 are free"):
        pool.take(3)


def test_a_free_page_can_be_found_until_it_is_taken_again_and_the_oldest_goes_first():
    pool = PagePool(3, 4)
    pages = pool.take(3)
    for page, name in zip(pages, (b"a", b"b", b"c"), strict=True):
        pool.name(page, name)
    pool.give_back(pages)  # the last of a sequence are the first to be taken again
    pool.take(1)
    assert [pool.find(name) for name in (b"a", b"b", b"c")] == [pages[0], pages[1], None]


def test_of_two_pages_with_the_same_content_the_first_is_found():
    pool = PagePool(2, 4)
    first, second = pool.take(2)
    pool.name(first, b"a")
    pool.name(second, b"a")
    assert pool.find(b"a") == first
    pool.forget(second)
    assert pool.find(b"a") == first


@given(tokens, tokens, st.integers(1, 5))
def test_pages_have_the_same_name_exactly_when_all_tokens_up_to_their_end_agree(first, second, page_size):
    names: list[list[bytes]] = [[], []]
    for ids, known in zip((first, second), names, strict=True):
        extend_names(known, ids[: len(ids) // 2], page_size)  # in two parts, as a generation grows
        extend_names(known, ids, page_size)
        assert len(known) == len(ids) // page_size
    for index, (a, b) in enumerate(zip(*names, strict=False)):
        stop = (index + 1) * page_size
        assert (a == b) == (first[:stop] == second[:stop])


@given(tokens, tokens, st.integers(0, 50))
def test_the_common_length_is_what_both_begin_with(first, second, limit):
    length = common_length(first, second, limit)
    assert length <= limit
    assert first[:length] == second[:length]
    assert length == min(limit, len(first), len(second)) or first[length] != second[length]


def test_pages_keep_to_what_a_gpu_may_be_used_for_beside_the_weights(monkeypatch):
    """The card is made up: 40 GiB free, 16 GiB of weights on it, of 20 GiB that are allowed."""
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (40 * GIB, 80 * GIB))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 16 * GIB)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda _: 16 * GIB)
    layers = [LayerShape(torch.device("cuda", 0), torch.bfloat16, 8, 128)] * 32
    room = functools.partial(count_pages, layers, 64, working_bytes=lambda device: GIB, max_pages=10**9)
    page_bytes = sum(layer.page_bytes(64) for layer in layers)
    assert room() * page_bytes > 35 * GIB
    assert 2 * GIB < room(max_gpu_bytes={0: 20 * GIB}) * page_bytes <= 3 * GIB
    with pytest.raises(PlacementError, match=r"of 0 MiB free .* raise --max_gpu_memory"):
        room(max_gpu_bytes={0: 15 * GIB})


@pytest.mark.parametrize("is_float8", [False, True])
def test_pages_take_main_memory_when_they_are_written(is_float8):
    layer = LayerShape(torch.device("cpu"), torch.bfloat16, num_kv_heads=8, head_dim=128, is_float8=is_float8)
    num_pages = GIB // layer.page_bytes(64)
    before = psutil.Process().memory_info().rss
    cache = KvCache([layer], num_pages, 64)
    cache.keys(0)[: num_pages // 4] = 1  # an eighth of all
    assert 0.1 * GIB < psutil.Process().memory_info().rss - before < 0.25 * GIB
    assert not cache.keys(0)[-1].any()
