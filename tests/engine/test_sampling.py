"""The shared sampler: what it may choose, what it depends on, and what it draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from evaluation.toolbench.inference.engine.request import Sampling
from evaluation.toolbench.inference.engine.sampling import SamplingRows, gumbel_noise, penalize, sample

CPU = torch.device("cpu")
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-30, 0.1, 0.7, 1.5, 100.0]),
    top_p=st.sampled_from([1.0, 0.9, 0.3, 1e-6]),
    top_k=st.sampled_from([0, 1, 3, 1000]),
    seed=st.integers(-(2**70), 2**70),
)


def draw(logits, settings, positions=None, allowed=None):
    positions = torch.zeros(len(settings), dtype=torch.int64) if positions is None else torch.tensor(positions)
    return sample(logits, SamplingRows.of(settings, CPU), positions, allowed).tolist()


def test_greedy_takes_the_lowest_id_of_equals():
    logits = torch.tensor([[0.0, 3.0, 3.0], [1.0, 1.0, 1.0]])
    assert draw(logits, [Sampling()] * 2) == [1, 0]


@given(st.lists(samplings, min_size=1, max_size=6), st.integers(0, 2**31), st.integers(1, 40))
def test_a_row_does_not_depend_on_the_others(settings, logits_seed, vocab_size):
    generator = torch.Generator().manual_seed(logits_seed)
    logits = torch.randn(len(settings), vocab_size, generator=generator)
    allowed = torch.rand(len(settings), vocab_size, generator=generator) < 0.5
    allowed[:, 0] |= ~allowed.any(-1)
    positions = list(range(len(settings)))
    together = draw(logits, settings, positions, allowed)
    for row, sampling in enumerate(settings):
        assert draw(logits[row : row + 1], [sampling], [row], allowed[row : row + 1]) == [together[row]]
        assert allowed[row, together[row]]


@given(samplings, st.sampled_from([float("nan"), float("inf"), -float("inf"), 3e38]), st.integers(0, 9))
def test_broken_logits_never_give_an_id_that_is_not_allowed(sampling, value, only):
    logits = torch.full((1, 10), value)
    allowed = torch.zeros(1, 10, dtype=torch.bool)
    allowed[0, only] = True
    assert draw(logits, [sampling], allowed=allowed) == [only]


@given(st.integers(1, 12), st.integers(0, 2**31))
def test_top_k_keeps_the_k_largest(k, seed):
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed))
    chosen = {draw(logits, [Sampling(5.0, top_k=k, seed=s)])[0] for s in range(15)}
    assert chosen <= set(logits[0].topk(k).indices.tolist())


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for top_p, kept in [(0.4, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]:
        assert {draw(logits, [Sampling(1.0, top_p=top_p, seed=s)])[0] for s in range(300)} == kept


def test_top_p_counts_what_top_k_left():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert {draw(logits, [Sampling(1.0, top_p=0.6, top_k=2, seed=s)])[0] for s in range(100)} == {0}


@given(st.sampled_from([0.5, 1.05, 1.1, 5.0]), st.lists(st.integers(0, 29), min_size=1), st.integers(0, 2**31))
def test_penalized_logits_are_those_of_transformers(penalty, history, seed):
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(seed))
    seen = torch.zeros(1, 30, dtype=torch.bool).index_fill_(1, torch.tensor(history), True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([history]), logits.clone())
    assert torch.equal(penalize(logits, seen, torch.tensor([penalty])), expected)


@pytest.mark.parametrize(("top_k", "top_p"), [(50, 1.0), (5, 1.0), (50, 0.8), (20, 0.5)])
def test_draws_have_the_distribution_that_transformers_draws_from(top_k, top_p):
    """Penalty, temperature, top_k and top_p, in transformers' order."""
    sampling = Sampling(0.7, top_p=top_p, top_k=top_k, seed=3, repetition_penalty=1.3)
    logits = 2 * torch.randn(1, 60, generator=torch.Generator().manual_seed(1))
    history = torch.arange(0, 60, 3)[None]
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.3), TemperatureLogitsWarper(0.7)])
    processors += [TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)]
    expected = processors(history, logits.clone()).softmax(-1)[0]

    num = 20_000
    seen = torch.zeros(1, 60, dtype=torch.bool).scatter_(1, history, True)
    scores = penalize(logits, seen, torch.tensor([sampling.repetition_penalty]))
    drawn = sample(scores.expand(num, -1), SamplingRows.of([sampling] * num, CPU), torch.arange(num))
    frequencies = torch.bincount(drawn, minlength=60) / num
    assert not frequencies[expected == 0].any()
    assert torch.allclose(frequencies, expected, atol=0.015)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -4.0])
    num = 20_000
    rows = SamplingRows.of([Sampling(temperature, seed=7)] * num, CPU)
    drawn = sample(logits.expand(num, -1), rows, torch.arange(num))
    frequencies = torch.bincount(drawn, minlength=5) / num
    assert torch.allclose(frequencies, (logits / temperature).softmax(-1), atol=0.015)


def test_noise_is_gumbel_and_differs_by_seed_position_and_token():
    noise = gumbel_noise(torch.arange(40), torch.arange(40) % 2, 5_000)
    assert noise.isfinite().all()
    assert abs(float(noise.mean()) - 0.5772) < 0.01  # Euler's constant
    assert abs(float(noise.var()) - 1.6449) < 0.03  # pi^2 / 6
    assert noise.unique().numel() > 0.99 * noise.numel()
    seed, position = torch.tensor([3, 3, 4, 4]), torch.tensor([0, 1, 0, 1])
    correlation = torch.corrcoef(gumbel_noise(seed, position, 50_000))
    assert (correlation - torch.eye(4)).abs().max() < 0.03


def test_sampled_tokens_stay_what_they_are():
    # Answers on disk are reproducible from a seed only as long as this hash does not change.
    logits = torch.zeros(4, 1000)
    assert draw(logits, [Sampling(1.0, seed=s) for s in (0, 1, 2, 2**64 - 1)], [0, 1, 2, 3]) == [809, 423, 99, 868]
