"""The reference engine: constraints, sampling, futures and errors over a random-weights Llama."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import CancelledError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest, GenerationResult, Sampling
from evaluation.toolbench.inference.errors import ConfigError, EngineError
from tests.helpers.engine import CONTEXT, VOCAB_SIZE, assert_allowed, penalized_greedy, plain_greedy, tiny_llama

END = 5
NO_STOP = TokenSet([])
TEMPERATURES = [0.0, 0.7, 1.5, 5.0]
ids = st.integers(0, VOCAB_SIZE - 1)
tries = st.lists(st.lists(ids.filter(lambda i: i != END), min_size=1, max_size=4), min_size=1, max_size=12).map(
    lambda sequences: TokenTrie(sequences, END)
)


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.fixture(scope="module")
def engine(model):
    engine = GenerateEngine(model)
    yield engine
    engine.close()


def ask(engine, prompt=(1, 2, 3), max_new_tokens=8, stop_ids=NO_STOP, **more) -> GenerationResult:
    return engine.generate(GenerationRequest(list(prompt), max_new_tokens, stop_ids, **more))


@settings(max_examples=40)
@given(
    st.sampled_from(TEMPERATURES),
    st.one_of(tries, st.lists(ids, min_size=1, max_size=5).map(TokenSet)),
    st.integers(1, 6),
    st.integers(0, 1000),
)
def test_every_token_is_allowed_at_every_temperature(engine, temperature, constraint, max_new_tokens, seed):
    sampling = Sampling(temperature, seed=seed)
    request = GenerationRequest([seed % VOCAB_SIZE, 2], max_new_tokens, TokenSet([END]), sampling, constraint)
    assert_allowed(request, engine.generate(request))


def test_an_action_that_begins_another_can_end_or_go_on(engine):
    trie = TokenTrie([[10, 11], [10, 11, 12], [10, 11, 12, 13, 14]], END)
    seen = {
        ask(engine, constraint=trie, sampling=Sampling(5.0, seed=seed), stop_ids=TokenSet([END])).token_ids
        for seed in range(40)
    }
    # The longest path ends at its leaf without an end token; the shorter ones end with it.
    assert seen == {(10, 11, END), (10, 11, 12, END), (10, 11, 12, 13, 14)}


def test_a_leaf_ends_the_generation_without_an_end_token(engine):
    result = ask(engine, constraint=TokenTrie([[40, 41]], END))
    assert result == GenerationResult((40, 41), "stop")


def test_one_token_of_a_set_needs_no_end_token(engine):
    result = ask(engine, max_new_tokens=1, constraint=TokenSet([60, 61]), stop_ids=TokenSet([END]))
    assert result.finish_reason == "length"
    assert result.token_ids[0] in (60, 61)


@settings(max_examples=15)
@given(st.lists(ids, min_size=1, max_size=30), st.integers(1, 12))
def test_greedy_tokens_are_the_models_own(engine, model, prompt, max_new_tokens):
    result = ask(engine, prompt, max_new_tokens)
    assert list(result.token_ids) == plain_greedy(model, prompt, max_new_tokens)


def test_the_stop_token_that_ended_it_is_part_of_the_result(engine, model):
    tokens = plain_greedy(model, [1, 2, 3], 12)
    stop = tokens[4]
    result = ask(engine, max_new_tokens=12, stop_ids=TokenSet([stop]))
    assert result == GenerationResult(tuple(tokens[: tokens.index(stop) + 1]), "stop")


def test_sampled_tokens_depend_on_the_seed_and_nothing_else(engine):
    drawn = [ask(engine, sampling=Sampling(1.5, seed=seed)).token_ids for seed in (1, 2, 3, 1, 2, 3)]
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3
    longer = ask(engine, max_new_tokens=20, sampling=Sampling(1.5, seed=1)).token_ids
    assert longer[:8] == drawn[0]


@pytest.mark.parametrize("penalty", [0.7, 1.05, 1.5])
def test_greedy_tokens_under_a_penalty_are_those_of_transformers(engine, model, penalty):
    for prompt in ([1, 2, 3], [7] * 20, list(range(40))):
        expected = penalized_greedy(model, prompt, 30, penalty)
        result = ask(engine, prompt, 30, sampling=Sampling(repetition_penalty=penalty))
        assert list(result.token_ids) == expected
        assert penalty == 1.05 or expected != plain_greedy(model, prompt, 30)


def test_a_penalty_comes_before_the_constraints_mask(engine, model):
    """Of the allowed tokens those that were seen are less likely, as under a mask of transformers' own."""
    allowed, end = [3, 4, 50, 51], 51
    expected = penalized_greedy(
        model, [3, 4], 6, 1.5, prefix_allowed_tokens_fn=lambda batch, ids: allowed, eos_token_id=end
    )
    sampling = Sampling(repetition_penalty=1.5)
    result = ask(engine, [3, 4], 6, sampling=sampling, constraint=TokenSet(allowed), stop_ids=TokenSet([end]))
    assert list(result.token_ids) == expected


def test_the_checkpoints_generation_settings_have_no_influence(caplog, capfd):
    plain, marked = tiny_llama(), tiny_llama()
    with contextlib.closing(GenerateEngine(plain)) as engine:
        expected = [ask(engine, max_new_tokens=12, sampling=s) for s in (Sampling(), Sampling(1.0, seed=4))]
    settings_of_checkpoint = marked.generation_config
    settings_of_checkpoint.update(
        do_sample=True,
        temperature=0.6,
        top_p=0.1,
        top_k=2,
        eos_token_id=list(expected[0].token_ids[2:4]),
        repetition_penalty=5.0,
        min_new_tokens=10,
        max_length=9,
        bad_words_ids=[[expected[0].token_ids[0]]],
    )
    with contextlib.closing(GenerateEngine(marked)) as engine, caplog.at_level(logging.WARNING):
        assert [ask(engine, max_new_tokens=12, sampling=s) for s in (Sampling(), Sampling(1.0, seed=4))] == expected
    assert marked.generation_config is settings_of_checkpoint
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_tokens_are_counted_as_they_are_drawn(model):
    drawn, go_on = threading.Event(), threading.Event()

    def pause(*_):
        if engine.num_tokens() == 3:
            drawn.set()
            go_on.wait()

    hook = model.register_forward_pre_hook(pause)
    with contextlib.closing(GenerateEngine(model)) as engine:
        future = engine.submit(GenerationRequest([1, 2], 10, NO_STOP))
        drawn.wait()
        assert (engine.num_tokens(), future.done()) == (3, False)
        go_on.set()
        future.result()
        assert engine.num_tokens() == 10
    hook.remove()


def test_the_context_limits_the_generation(engine):
    assert len(ask(engine, [1] * (CONTEXT - 3), 50).token_ids) == 3
    assert ask(engine, [1] * (CONTEXT - 3), 50).finish_reason == "length"


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"prompt": [1, VOCAB_SIZE]}, [VOCAB_SIZE]),
        ({"prompt": [-1]}, [-1, VOCAB_SIZE]),
        ({"stop_ids": TokenSet([VOCAB_SIZE + 4])}, [VOCAB_SIZE + 4, VOCAB_SIZE]),
        ({"constraint": TokenSet([3, VOCAB_SIZE])}, [VOCAB_SIZE]),
        ({"constraint": TokenTrie([[3, VOCAB_SIZE + 1]], END)}, [VOCAB_SIZE + 1, VOCAB_SIZE]),
        ({"constraint": TokenTrie([[3]], VOCAB_SIZE)}, [VOCAB_SIZE]),
        ({"constraint": TokenSet([])}, ["empty allowed set"]),
        ({"prompt": [1] * CONTEXT}, [CONTEXT]),
    ],
)
def test_a_request_that_cannot_be_served_says_why_with_numbers(engine, changes, numbers):
    with pytest.raises(EngineError) as error:
        ask(engine, **changes)
    assert all(str(number) in str(error.value) for number in numbers)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GenerationRequest([], 1, NO_STOP),
        lambda: GenerationRequest([1], 0, NO_STOP),
        lambda: Sampling(temperature=-0.1),
        lambda: Sampling(temperature=float("nan")),
        lambda: Sampling(repetition_penalty=0.0),
        lambda: Sampling(repetition_penalty=float("inf")),
        lambda: TokenTrie([], END),
    ],
)
def test_nonsense_is_refused_before_it_reaches_an_engine(make):
    with pytest.raises(EngineError):
        make()


def test_an_error_is_its_own_futures_alone(engine):
    prompts = [[1, 2], [VOCAB_SIZE], [3, 4]]
    futures = [engine.submit(GenerationRequest(prompt, 3, NO_STOP)) for prompt in prompts]
    assert isinstance(futures[1].exception(), EngineError)
    assert [len(futures[i].result().token_ids) for i in (0, 2)] == [3, 3]


def test_close_finishes_what_runs_cancels_what_waits_and_leaves_no_thread(model):
    threads_before = set(threading.enumerate())
    engine = GenerateEngine(model)
    futures = [engine.submit(GenerationRequest([i + 1], 40, NO_STOP)) for i in range(12)]
    assert futures[-1].cancel()  # waiting ones can be cancelled by their owner
    futures[0].result()
    engine.close()
    engine.close()
    outcomes = []
    for future in futures:
        try:
            outcomes.append(len(future.result(timeout=0).token_ids))
        except CancelledError:
            outcomes.append(None)
    assert outcomes[0] == 40
    assert outcomes[-1] is None
    assert set(outcomes) == {40, None}
    assert threads_before == set(threading.enumerate())
    with pytest.raises(EngineError, match="closed"):
        engine.submit(GenerationRequest([1], 1, NO_STOP))


def test_many_threads_may_ask_at_once(engine):
    alone = [ask(engine, [i + 1], 5) for i in range(8)]
    together: list[GenerationResult | None] = [None] * 8

    def work(i: int) -> None:
        together[i] = ask(engine, [i + 1], 5)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_engines_go_by_name(model):
    engine = make_engine("generate", model)
    assert (engine.vocab_size, engine.max_length) == (VOCAB_SIZE, CONTEXT)
    engine.close()
    with pytest.raises(ConfigError, match="generate"):
        make_engine("no-such-engine", model)
