"""Searches on a GPU: graphs, kernels and copied pages change no path in float32."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.retrieval.beam_search import SearchRules
from evaluation.toolbench.retrieval.capacity import GPU_OPTIONS
from evaluation.toolbench.retrieval.search import PromptSearch
from tests.helpers.beam_search import run_search
from tests.helpers.engine import VOCAB_SIZE, tiny_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"needs 1 GPU, found {torch.cuda.device_count()}"),
]
END = 5


@pytest.mark.parametrize("penalty", [1.0, 1.2])
@pytest.mark.parametrize(
    "options",
    [{**GPU_OPTIONS, "max_length": 95}, {"num_pages": 40, "page_size": 16}],
    ids=["as it runs", "few pages"],
)
def test_many_searches_at_once_are_those_of_the_reference(options, penalty):
    rng = random.Random(3)
    trie = TokenTrie([[rng.randrange(6, VOCAB_SIZE) for _ in range(rng.randint(1, 3))] for _ in range(80)], END)
    rules = SearchRules(END, max_new_tokens=5, repetition_penalty=penalty)
    prompts = [[rng.randrange(6, VOCAB_SIZE) for _ in range(rng.randint(1, 90))] for _ in range(40)]

    def search(engine, number):
        limit = trie if number % 4 else None
        return run_search(engine, PromptSearch(f"{number}", prompts[number], rules, (5, 10), limit))

    with contextlib.closing(GenerateEngine(tiny_llama().cuda())) as reference:
        expected = [search(reference, number) for number in range(len(prompts))]
    with (
        contextlib.closing(PagedEngine(tiny_llama().cuda(), **options)) as engine,
        ThreadPoolExecutor(16) as threads,
    ):
        found = list(threads.map(lambda number: search(engine, number), range(len(prompts))))
        assert engine.page_use().num_idle == 0
    for ours, theirs in zip(found, expected, strict=True):
        for width in (5, 10):
            assert [result.score for result in ours[width]] == pytest.approx(
                [result.score for result in theirs[width]], abs=1e-3
            )
