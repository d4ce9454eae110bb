"""Scoring requests: the best of an allowed set after a prompt, the same from every engine."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest, ScoringRequest
from evaluation.toolbench.inference.errors import EngineError
from tests.helpers.engine import CONTEXT, VOCAB_SIZE, tiny_llama

END = 5
PAGE_SIZE = 8


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.fixture(scope="module")
def reference(model):
    engine = GenerateEngine(tiny_llama())
    yield engine
    engine.close()


@pytest.fixture(params=[False, True], ids=["in turn", "overlapped"])
def engine(model, request):
    engine = PagedEngine(model, num_pages=64, page_size=PAGE_SIZE, overlap=request.param)
    yield engine
    engine.close()


def plain_scores(model, prompt, allowed, num_best):
    """By a forward pass, without an engine: ids and log-probabilities, best first."""
    with torch.inference_mode():
        values = model(torch.tensor([prompt])).logits[0, -1].log_softmax(dim=-1)
    ranked = sorted(allowed, key=lambda token: -float(values[token]))[:num_best]
    return ranked, [float(values[token]) for token in ranked]


def assert_same(result, ids, log_probabilities):
    assert list(result.token_ids) == ids
    np.testing.assert_allclose(result.log_probabilities, log_probabilities, atol=1e-4)


def prompt_of(rng, length):
    return [rng.randrange(VOCAB_SIZE) for _ in range(length)]


@pytest.mark.parametrize("which", ["reference", "paged"])
def test_the_best_of_a_set_have_their_probabilities_among_the_whole_vocabulary(which, reference, engine):
    chosen, rng = {"reference": reference, "paged": engine}[which], random.Random(1)
    prompt, allowed = prompt_of(rng, 20), [3, 50, 7, 90, 12]
    found = chosen.score(ScoringRequest(prompt, 3, TokenSet(allowed))).result()
    assert_same(found, *plain_scores(tiny_llama(), prompt, allowed, 3))
    assert sum(np.exp(found.log_probabilities)) < 1
    everything = chosen.score(ScoringRequest(prompt, VOCAB_SIZE + 10)).result()
    assert_same(everything, *plain_scores(tiny_llama(), prompt, range(VOCAB_SIZE), VOCAB_SIZE))
    assert sum(np.exp(everything.log_probabilities)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("which", ["reference", "paged"])
def test_in_a_trie_the_children_of_the_node_are_scored_and_the_end_where_a_path_may_end(which, reference, engine):
    chosen, rng = {"reference": reference, "paged": engine}[which], random.Random(2)
    trie = TokenTrie([[10, 11], [10, 12, 13], [10], [20]], END)
    after_10 = trie.step(TokenTrie.ROOT, 10)
    leaf = trie.step(TokenTrie.ROOT, 20)
    for node, path, allowed in ((TokenTrie.ROOT, [], [10, 20]), (after_10, [10], [11, 12, END]), (leaf, [20], [END])):
        prompt = prompt_of(rng, 9) + path
        found = chosen.score(ScoringRequest(prompt, 10, trie, node)).result()
        assert_same(found, *plain_scores(tiny_llama(), prompt, allowed, 10))


def test_branches_of_a_prompt_read_one_token_each_and_leave_its_pages_as_they_are(engine):
    rng = random.Random(3)
    prompt = prompt_of(rng, 3 * PAGE_SIZE + 5)
    engine.score(ScoringRequest(prompt, 5, conversation_id="q")).result()
    before = engine.counts().prefill_tokens
    for _ in range(2):  # the second time from the same pages
        branches = [
            engine.score(ScoringRequest([*prompt, token], 4, parent_id="q", conversation_id=f"q.{token}"))
            for token in range(20)
        ]
        for token, branch in enumerate(branches):
            assert_same(branch.result(), *plain_scores(tiny_llama(), [*prompt, token], range(VOCAB_SIZE), 4))
    assert engine.counts().prefill_tokens - before == 40
    twigs = [engine.score(ScoringRequest([*prompt, 7, token], 4, parent_id="q.7")) for token in range(3)]
    for token, twig in enumerate(twigs):
        assert_same(twig.result(), *plain_scores(tiny_llama(), [*prompt, 7, token], range(VOCAB_SIZE), 4))
    assert engine.counts().prefill_tokens - before == 43
    for name in ("q", *(f"q.{token}" for token in range(20))):
        engine.end_conversation(name)
    engine.score(ScoringRequest([1], 1)).result()  # the messages before it have been taken in
    assert engine.page_use().num_free == 64


@pytest.mark.parametrize("which", ["reference", "paged"])
def test_what_is_scored_together_is_what_each_would_be_by_itself(which, reference, engine):
    chosen, rng = {"reference": reference, "paged": engine}[which], random.Random(7)
    prompt = prompt_of(rng, 2 * PAGE_SIZE + 3)
    trie = TokenTrie([[10, 11], [10], [20, 30], [20, 31, 40]], END)
    asked = [
        ScoringRequest(prompt, 3, trie, conversation_id="q"),
        *(ScoringRequest([*prompt, token], 4, trie, trie.step(0, token)) for token in (10, 20)),
        ScoringRequest([*prompt, *prompt_of(rng, PAGE_SIZE)], 2, TokenSet([3, 9]), repetition_penalty=1.4),
        ScoringRequest(prompt_of(rng, 5), 6),
    ]
    together = chosen.score_all(asked).result()
    for request, result in zip(asked, together, strict=True):
        alone = reference.score(request).result()
        assert_same(result, list(alone.token_ids), alone.log_probabilities)
    chosen.end_conversation("q")


def test_scorings_that_are_cancelled_together_leave_nothing_behind(engine):
    futures = [engine.score_all([ScoringRequest([number] * 30, 2)] * 4) for number in range(12)]
    for future in futures[1:]:
        future.cancel()
    assert len(futures[0].result()) == 4
    engine.score(ScoringRequest([1], 1)).result()  # the messages before it have been taken in
    assert engine.page_use().num_free == 64


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), num_pages=st.sampled_from([12, 20, 64]), chunk=st.sampled_from([4, 32]))
def test_scorings_and_generations_at_once_over_few_pages_are_those_of_the_reference(reference, seed, num_pages, chunk):
    rng = random.Random(seed)
    trie = TokenTrie([prompt_of(rng, rng.randint(1, 3)) for _ in range(8)], END)
    with_few_pages = PagedEngine(
        tiny_llama(), num_pages=num_pages, page_size=PAGE_SIZE, max_prefill_tokens=chunk, max_running=6
    )
    try:
        asked = []
        for number in range(6):
            prompt = prompt_of(rng, rng.randint(1, 40))
            constraint = rng.choice([None, trie, TokenSet(prompt_of(rng, 5))])
            penalty = rng.choice([1.0, 1.0, 1.2])
            asked.append(
                ScoringRequest(
                    prompt, rng.randint(1, 9), constraint, conversation_id=f"{number}", repetition_penalty=penalty
                )
            )
            branches = prompt_of(rng, rng.randint(0, 4))
            asked += [ScoringRequest([*prompt, token], 2, parent_id=f"{number}") for token in branches]
            if rng.random() < 0.4:
                asked.append(GenerationRequest(prompt, 3, TokenSet([END]), conversation_id=f"{number}"))
        send = {ScoringRequest: "score", GenerationRequest: "submit"}
        found = [getattr(with_few_pages, send[type(each)])(each) for each in asked]
        for each, future in zip(asked, found, strict=True):
            expected = getattr(reference, send[type(each)])(each).result()
            result = future.result()
            assert result.token_ids == expected.token_ids
            if isinstance(each, ScoringRequest):
                np.testing.assert_allclose(result.log_probabilities, expected.log_probabilities, atol=1e-4)
    finally:
        with_few_pages.close()


@pytest.mark.parametrize("which", ["reference", "paged"])
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ScoringRequest([VOCAB_SIZE], 1), "outside the model's vocabulary"),
        (ScoringRequest([1], 1, TokenSet([VOCAB_SIZE])), "beyond the model's vocabulary"),
        (ScoringRequest([1], 1, TokenSet([])), "empty allowed set"),
        (ScoringRequest([1] * CONTEXT, 1), "leaves no room"),
        (ScoringRequest([1], 1, TokenTrie([[1]], END), 2), "nodes 0 to 1"),
    ],
)
def test_a_scoring_that_cannot_be_served_fails_alone(which, request_, words, reference, engine):
    chosen = {"reference": reference, "paged": engine}[which]
    with pytest.raises(EngineError, match=words):
        chosen.score_all([ScoringRequest([1], 1), request_]).result()
    wrong, right = chosen.score(request_), chosen.score(ScoringRequest([1, 2], 1))
    with pytest.raises(EngineError, match=words):
        wrong.result()
    assert len(right.result().token_ids) == 1


@pytest.mark.parametrize("arguments", [([], 1), ([1], 0)])
def test_a_scoring_of_nothing_is_refused_when_it_is_made(arguments):
    with pytest.raises(EngineError):
        ScoringRequest(*arguments)
