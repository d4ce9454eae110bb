import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.request import ScoringResult
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.retrieval.beam_search import BeamSearch, SearchRules
from tests.helpers.beam_search import TableConfig, TableModel, allowed_ids, transformers_search

VOCAB, END = 12, 3
MODELS = [TableModel(TableConfig(VOCAB), seed=seed, spread=spread) for seed in range(3) for spread in (0.3, 3.0)]

tokens = st.integers(0, VOCAB - 1)
tries = st.lists(st.lists(tokens.filter(lambda token: token != END), min_size=1, max_size=5), min_size=1, max_size=30)
penalties = st.sampled_from([1.0, 0.0, 0.6, 2.0])


def search(model, prompt, rules, width, sequences=None):
    """[(ids, score)] of our rules over the same model."""
    trie = TokenTrie(sequences, rules.end_id) if sequences is not None else None
    found = BeamSearch(width, rules)
    while not found.is_over:
        found.advance([score(model, prompt, beam.token_ids, trie, rules.end_id, found) for beam in found.beams])
    return [(result.token_ids, result.score) for result in found.results]


def score(model, prompt, path, trie, end_id, search):
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *path]])).logits[0, -1]
    values = logits.float().log_softmax(dim=-1)
    allowed = allowed_ids(trie, path, end_id)
    ids = torch.arange(len(values)) if allowed is None else torch.tensor(allowed)
    best = values[ids].topk(min(search.num_wanted, len(ids)))
    return ScoringResult(tuple(ids[best.indices].tolist()), tuple(best.values.tolist()))


def assert_same(ours, theirs):
    assert [ids for ids, _ in ours] == [ids for ids, _ in theirs]
    np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], rtol=1e-6)


@settings(max_examples=200)
@given(
    model=st.sampled_from(MODELS),
    prompt=st.lists(tokens, min_size=1, max_size=4),
    sequences=tries,
    width=st.integers(2, 10),
    max_new_tokens=st.integers(1, 8),
    penalty=penalties,
)
def test_a_search_within_any_trie_is_that_of_transformers(model, prompt, sequences, width, max_new_tokens, penalty):
    rules = SearchRules(END, max_new_tokens, length_penalty=penalty)
    ours = search(model, prompt, rules, width, sequences)
    assert_same(ours, transformers_search(model, prompt, rules, width, sequences))


@settings(max_examples=200)
@given(
    model=st.sampled_from(MODELS),
    prompt=st.lists(tokens, min_size=1, max_size=4),
    width=st.integers(2, 10),
    max_new_tokens=st.integers(1, 12),
    penalty=penalties,
    early_stopping=st.sampled_from([False, True, "never"]),
)
def test_a_search_without_constraint_is_that_of_transformers(
    model, prompt, width, max_new_tokens, penalty, early_stopping
):
    rules = SearchRules(END, max_new_tokens, length_penalty=penalty, early_stopping=early_stopping)
    assert_same(search(model, prompt, rules, width), transformers_search(model, prompt, rules, width))


def test_a_path_that_ends_below_the_width_is_lost():
    first = ScoringResult((5, 6, END), (-0.1, -0.2, -0.3))
    narrow, wide = BeamSearch(2, SearchRules(END)), BeamSearch(3, SearchRules(END))
    for found in (narrow, wide):
        found.advance([first])
    assert narrow.results == []
    assert [result.token_ids for result in wide.results] == [(END,)]


def test_fewer_candidates_than_beams_give_fewer_results_and_no_repeats():
    found = search(MODELS[0], [1], SearchRules(END), 5, [[4], [5, 6], [7]])
    assert sorted(ids for ids, _ in found) == [(4, END), (5, 6, END), (7, END)]


@pytest.mark.parametrize(("width", "max_new_tokens"), [(0, 64), (5, 0)])
def test_a_search_of_nothing_is_refused(width, max_new_tokens):
    with pytest.raises(ConfigError, match="at least 1"):
        BeamSearch(width, SearchRules(END, max_new_tokens))
