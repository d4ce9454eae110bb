"""Searches over real engines, against transformers' own beam search with a masking processor."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.demo.samples import demo_queries
from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.errors import EngineError, StopRequested
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.toolgen.agent_parts import load_tokenizer
from evaluation.toolbench.retrieval.beam_search import SearchRules
from evaluation.toolbench.retrieval.index import load_index
from evaluation.toolbench.retrieval.prompts import RetrievalPrompts
from evaluation.toolbench.retrieval.search import PromptSearch
from evaluation.toolbench.retrieval.search_space import search_space
from tests.helpers.beam_search import run_search, transformers_search
from tests.helpers.engine import VOCAB_SIZE, tiny_llama

END, PAGE_SIZE, NUM_PAGES = 5, 8, 64
CLOSE = 1e-3  # scores that are nearer to each other may change places by rounding

tokens = st.integers(0, VOCAB_SIZE - 1).filter(lambda token: token != END)
tries = st.lists(st.lists(tokens, min_size=1, max_size=4), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.fixture(scope="module")
def engines(model):
    paged = PagedEngine(tiny_llama(), num_pages=NUM_PAGES, page_size=PAGE_SIZE, max_running=24)
    reference = GenerateEngine(tiny_llama())
    yield {"paged": paged, "reference": reference}
    paged.close()
    reference.close()


def assert_same(ours, theirs, *, is_cut_at=None):
    """The same paths with the same scores, but for places that rounding could exchange."""
    assert [result.score for result in ours] == pytest.approx([score for _, score in theirs], abs=CLOSE)
    scores = [score for _, score in theirs]
    for place, (result, (ids, score)) in enumerate(zip(ours, theirs, strict=True)):
        near = [other for other in scores[:place] + scores[place + 1 :] if abs(other - score) < CLOSE]
        if not near and place != is_cut_at:
            assert result.token_ids == ids


@settings(max_examples=30, derandomize=True)
@given(
    prompt=st.lists(tokens, min_size=1, max_size=30),
    sequences=tries,
    width=st.integers(2, 10),
    which=st.sampled_from(["paged", "reference"]),
    penalty=st.sampled_from([1.0, 1.3, 0.7]),
)
def test_a_search_in_any_trie_is_transformers_own(model, engines, prompt, sequences, width, which, penalty):
    rules = SearchRules(END, max_new_tokens=8, repetition_penalty=penalty)
    search = PromptSearch("p", prompt, rules, [width], TokenTrie(sequences, END))
    found = run_search(engines[which], search)[width]
    assert_same(found, transformers_search(model, prompt, rules, width, sequences), is_cut_at=width - 1)


@settings(max_examples=15, derandomize=True)
@given(prompt=st.lists(tokens, min_size=1, max_size=30), width=st.integers(2, 6))
def test_a_search_without_constraint_is_transformers_own(model, engines, prompt, width):
    rules = SearchRules(END, max_new_tokens=6)
    found = run_search(engines["paged"], PromptSearch("p", prompt, rules, [width], None))[width]
    assert_same(found, transformers_search(model, prompt, rules, width), is_cut_at=width - 1)


def test_searches_of_several_widths_are_those_of_each_alone_and_share_what_they_read(engines):
    rng = random.Random(4)
    paged, rules = engines["paged"], SearchRules(END, max_new_tokens=6)
    trie = TokenTrie([[rng.randrange(6, 90) for _ in range(rng.randint(1, 3))] for _ in range(60)], END)
    prompt = [rng.randrange(90) for _ in range(3 * PAGE_SIZE + 3)]
    before = paged.counts().prefill_tokens
    together = run_search(paged, PromptSearch("both", prompt, rules, [5, 10], trie))
    num_read = paged.counts().prefill_tokens - before
    for width in (5, 10):
        alone = run_search(paged, PromptSearch(f"alone {width}", prompt, rules, [width], trie))[width]
        assert [result.token_ids for result in together[width]] == [result.token_ids for result in alone]
    assert len(prompt) + 10 <= num_read <= len(prompt) + 40  # the prompt once, then a token for each beam of a step


def test_no_search_leaves_pages_behind(engines):
    paged = engines["paged"]
    rules = SearchRules(END, max_new_tokens=5)
    run_search(paged, PromptSearch("done", [1] * 20, rules, [4], None))
    with pytest.raises(EngineError):
        run_search(paged, PromptSearch("failed", [1] * 126, rules, [4], None))
    stops = iter([False, False, True])
    with pytest.raises(StopRequested):
        run_search(paged, PromptSearch("stopped", [2] * 20, rules, [4], None), lambda: next(stops))
    run_search(paged, PromptSearch("last", [3], SearchRules(END, max_new_tokens=1), [2], None))
    assert (paged.page_use().num_free, paged.page_use().num_idle) == (NUM_PAGES, 0)


@pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason=f"no model in {MODEL_DIR}")
@pytest.mark.parametrize("is_constrained", [True, False])
def test_on_a_trained_model_searches_are_transformers_own(is_constrained):
    tokenizer = load_tokenizer(str(MODEL_DIR))
    prompts = RetrievalPrompts(tokenizer, "llama-3")
    model = load_model(str(MODEL_DIR), device="cpu", dtype="float32")
    size = model.config.vocab_size
    candidates = load_index(DATA_DIR, "Atomic").candidates()
    # Texts of several tokens beside the tools' own, some of which begin alike.
    texts = candidates if is_constrained else []
    trie = search_space(tokenizer, "Semantic", [*texts, "air", "airport", "air quality"], prompts.end_id, size)
    sequences = [prompts.bare_ids(text) for text in [*texts, "air", "airport", "air quality"]]
    rules = SearchRules(prompts.end_id, max_new_tokens=64 if is_constrained else 8)
    queries = [prompts.ids(query.trajectory.question) for query in demo_queries()[:12]]
    with_masks = sequences if is_constrained else None
    expected = [transformers_search(model, ids, rules, 5, with_masks) for ids in queries]
    engine = PagedEngine(model, num_pages=64)
    try:
        for ids, theirs in zip(queries, expected, strict=True):
            search = PromptSearch("q", ids, rules, [5, 10], trie if is_constrained else None)
            assert_same(run_search(engine, search)[5], theirs, is_cut_at=4)
    finally:
        engine.close()
