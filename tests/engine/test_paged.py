"""The paged engine gives the tokens of the reference engine, whatever the pages, the batch and the callers do."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from evaluation.toolbench.inference.engine.constraint import Constraint, TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest, GenerationResult, Sampling
from evaluation.toolbench.inference.errors import DataError, EngineError, PlacementError
from tests.helpers.engine import (
    CONTEXT,
    VOCAB_SIZE,
    assert_allowed,
    attending_in_float8,
    tiny_llama,
    tiny_qwen2,
    tiny_qwen3,
)

END = 5
NO_STOP = TokenSet([])
MAKERS = {"llama": tiny_llama, "qwen2": tiny_qwen2, "qwen3": tiny_qwen3}
IN_FLOAT8 = "llama with 8-bit pages"
CONSTRAINTS: list[Constraint | None] = [
    None,
    None,
    TokenSet([7]),
    TokenSet([END, 20, 21, 22, 23]),
    TokenSet(range(30, VOCAB_SIZE)),
    TokenTrie([[10, 11], [10, 11, 12], [10, 13, 14, 15], [16], [17, 18, 19, 20, 21]], END),
]


class Reference:
    """The reference engine's answers; asked once for each request."""

    def __init__(self, make) -> None:
        self._engine = GenerateEngine(make())
        self._known: dict[tuple, GenerationResult] = {}

    def __call__(self, request: GenerationRequest) -> GenerationResult:
        key = (
            tuple(request.prompt_ids),
            request.max_new_tokens,
            request.stop_ids,
            request.sampling,
            request.constraint,
        )
        if key not in self._known:
            self._known[key] = self._engine.generate(request)
        return self._known[key]

    def close(self) -> None:
        self._engine.close()


@pytest.fixture(scope="module", params=[*MAKERS, IN_FLOAT8])
def family(request):
    """A way to make a paged engine, and what the reference engine says about its model."""
    if request.param == IN_FLOAT8:
        # In float64, so that nothing but the number itself decides to which of two codes it is rounded.
        with contextlib.closing(Reference(lambda: attending_in_float8(tiny_llama().double()))) as reference:
            yield lambda **options: PagedEngine(tiny_llama().double(), kv_cache="fp8", **options), reference
        return
    make = MAKERS[request.param]
    with contextlib.closing(Reference(make)) as reference:
        yield lambda **options: PagedEngine(make(), **options), reference


@pytest.fixture(scope="module")
def reference():
    with contextlib.closing(Reference(tiny_llama)) as reference:
        yield reference


@pytest.fixture
def engine():
    with contextlib.closing(PagedEngine(tiny_llama(), num_pages=64, page_size=8)) as engine:
        yield engine


def random_request(rng: random.Random, conversation: str | None = None, start: list[int] | None = None):
    prompt = (start or []) + [rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(1, 30))]
    sampling = rng.choice(
        [
            Sampling(),
            Sampling(repetition_penalty=1.3),
            Sampling(0.8, seed=rng.randrange(100)),
            Sampling(2.0, 0.9, 20, rng.randrange(100), rng.choice([1.0, 1.1])),
        ]
    )
    stop_ids = rng.choice([NO_STOP, TokenSet([END])])
    constraint = rng.choice(CONSTRAINTS)
    return GenerationRequest(prompt, rng.randint(1, 12), stop_ids, sampling, constraint, conversation)


def converse(engine, rng: random.Random, conversation: str, num_steps: int):
    """The requests of a conversation that mostly grows and sometimes turns back, with their results."""
    history: list[int] = []
    exchanges = []
    for _ in range(num_steps):
        if rng.random() < 0.25:
            history = history[: rng.randint(0, len(history))]
        if len(history) > CONTEXT - 50:
            history = history[:20]
        request = random_request(rng, conversation, history)
        result = engine.generate(request)
        exchanges.append((request, result))
        history = [*request.prompt_ids, *result.token_ids]
    engine.end_conversation(conversation)
    return exchanges


@pytest.mark.parametrize(
    "options",
    [
        {"num_pages": 200, "page_size": 16},
        {"num_pages": 200, "page_size": 16, "overlap": True},
        {"num_pages": 18, "page_size": 8, "max_prefill_tokens": 7},  # room for one conversation and a little
        {"num_pages": 130, "page_size": 1, "max_prefill_tokens": 20, "overlap": True},
        {"num_pages": 40, "page_size": 8, "max_running": 2},
    ],
    ids=["roomy", "overlapped", "tiny-pool", "pages-of-one", "two-at-once"],
)
def test_conversations_at_once_get_the_tokens_of_the_reference(family, options):
    open_engine, reference = family
    exchanges: dict[int, list] = {}
    with contextlib.closing(open_engine(**options)) as engine:

        def work(number: int) -> None:
            exchanges[number] = converse(engine, random.Random(number), f"c{number}", 5)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        num_tokens = engine.num_tokens()
        wait_until_idle(engine)
        assert engine.page_use().num_free == options["num_pages"]
        if options["num_pages"] * options["page_size"] < 200:
            assert engine.counts().preemptions + engine.counts().evictions > 0
    assert len(exchanges) == 8
    assert num_tokens == sum(len(result.token_ids) for each in exchanges.values() for _, result in each)
    for request, result in (exchange for number in exchanges for exchange in exchanges[number]):
        assert_allowed(request, result)
        assert result == reference(request)


@settings(max_examples=25, derandomize=True)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([(1, 60), (4, 15), (16, 4)]),
    st.integers(1, 40),
    st.booleans(),
)
def test_a_burst_of_requests_over_few_pages_gets_the_tokens_of_the_reference(reference, rng, pool, chunk, overlap):
    page_size, num_pages = pool
    requests = [random_request(rng, rng.choice([None, "a", "b"])) for _ in range(rng.randint(1, 10))]
    options = {"num_pages": num_pages, "page_size": page_size, "max_prefill_tokens": chunk, "overlap": overlap}
    with contextlib.closing(PagedEngine(tiny_llama(), **options)) as engine:
        futures = [engine.submit(request) for request in requests]
        results = [future.result(60) for future in futures]
    assert results == [reference(request) for request in requests]


def test_the_next_prompt_of_a_conversation_reads_only_what_was_appended(engine):
    prompt = list(range(1, 40))
    first = engine.generate(GenerationRequest(prompt, 10, NO_STOP, conversation_id="c"))
    assert engine.counts().prefill_tokens == len(prompt)
    longer = [*prompt, *first.token_ids, 3, 4, 5]
    engine.generate(GenerationRequest(longer, 2, NO_STOP, conversation_id="c"))
    # Three new tokens, and the last generated one: its keys and values had not been needed.
    assert engine.counts().prefill_tokens == len(prompt) + 4


def test_an_ended_or_unnamed_conversation_keeps_no_pages(engine):
    engine.generate(GenerationRequest([1] * 20, 5, NO_STOP, conversation_id="c"))
    wait_until_idle(engine)
    assert engine.page_use().num_idle == 1
    engine.end_conversation("c")
    engine.end_conversation("never heard of")
    engine.generate(GenerationRequest([2] * 20, 5, NO_STOP))
    wait_until_idle(engine)
    use = engine.page_use()
    assert (use.num_idle, use.num_free) == (0, use.num_pages)


def test_a_conversation_that_ends_while_it_runs_keeps_no_pages(engine):
    future = engine.submit(GenerationRequest([1] * 20, 60, NO_STOP, conversation_id="c"))
    engine.end_conversation("c")
    assert len(future.result().token_ids) == 60
    wait_until_idle(engine)
    assert engine.page_use().num_free == engine.page_use().num_pages


def test_sampled_tokens_depend_on_the_seed_and_not_on_the_batch(engine):
    request = GenerationRequest([9, 8, 7], 12, NO_STOP, Sampling(1.2, 0.95, 40, seed=11))
    alone = engine.generate(request)
    rng = random.Random(3)
    others = [engine.submit(random_request(rng)) for _ in range(10)]
    together = engine.submit(request)
    others += [engine.submit(random_request(rng)) for _ in range(10)]
    assert together.result() == alone
    assert all(other.result() for other in others)
    other_seed = GenerationRequest([9, 8, 7], 12, NO_STOP, Sampling(1.2, 0.95, 40, seed=12))
    assert engine.generate(other_seed) != alone


def test_sequences_as_long_as_was_said_are_served_and_longer_ones_refused(reference):
    prompt = list(range(10, 27))
    with contextlib.closing(PagedEngine(tiny_llama(), page_size=16, max_length=20)) as engine:
        assert engine.max_length == 20
        found = engine.generate(GenerationRequest(prompt, 50, NO_STOP))
        assert found == reference(GenerationRequest(prompt, 3, NO_STOP))
        with pytest.raises(EngineError, match=r"20 tokens.*20") as error:
            engine.generate(GenerationRequest([*prompt, 1, 2, 3], 1, NO_STOP))
        assert error.value.details == {"prompt_tokens": 20, "max_length": 20}


def test_prompts_and_generations_stop_where_the_pages_do():
    with contextlib.closing(PagedEngine(tiny_llama(), num_pages=3, page_size=8)) as engine:
        assert engine.max_length == 24
        assert len(engine.generate(GenerationRequest([1] * 20, 50, NO_STOP)).token_ids) == 4
        with pytest.raises(EngineError, match=r"30 tokens.*24") as error:
            engine.generate(GenerationRequest([1] * 30, 1, NO_STOP))
        assert error.value.details == {"prompt_tokens": 30, "max_length": 24}


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest([1] * CONTEXT, 1, NO_STOP),
        GenerationRequest([VOCAB_SIZE], 1, NO_STOP),
        GenerationRequest([1], 1, TokenSet([VOCAB_SIZE])),
        GenerationRequest([1], 1, NO_STOP, constraint=TokenSet([])),
    ],
)
def test_a_request_that_cannot_be_served_fails_alone(engine, request_):
    good = engine.submit(GenerationRequest([1, 2], 20, NO_STOP))
    with pytest.raises(EngineError):
        engine.submit(request_).result()
    assert len(good.result().token_ids) == 20


def test_an_error_in_the_model_is_the_future_of_the_request_that_causes_it(engine, reference, monkeypatch):
    forward = engine._runner.stages[0].forward

    def fails_on_66(layout, inputs, hidden, **options):
        if (layout.views(inputs).ids == 66).any():
            raise RuntimeError("this model does not like 66")
        return forward(layout, inputs, hidden, **options)

    monkeypatch.setattr(engine._runner.stages[0], "forward", fails_on_66)
    allowed = TokenSet(range(60))
    good = [GenerationRequest([n + 1, 2, 3], 6, NO_STOP, constraint=allowed) for n in range(5)]
    futures = [engine.submit(request) for request in good[:3]]
    bad = engine.submit(GenerationRequest([4, 66, 4], 6, NO_STOP, conversation_id="c"))
    futures += [engine.submit(request) for request in good[3:]]
    with pytest.raises(EngineError, match="does not like 66"):
        bad.result()
    assert [future.result() for future in futures] == [reference(request) for request in good]
    wait_until_idle(engine)
    assert engine.page_use().num_free == engine.page_use().num_pages


def test_out_of_memory_makes_steps_smaller_and_loses_nothing(engine, reference, monkeypatch, caplog):
    forward = engine._runner.stages[0].forward

    def fits_three_rows(layout, inputs, hidden, **options):
        if layout.shape.num_rows > 3:
            raise torch.OutOfMemoryError("pretended")
        return forward(layout, inputs, hidden, **options)

    monkeypatch.setattr(engine._runner.stages[0], "forward", fits_three_rows)
    requests = [GenerationRequest([n + 1, 2, 3, n], 9, NO_STOP) for n in range(10)]
    with caplog.at_level(logging.WARNING):
        futures = [engine.submit(request) for request in requests]
        assert [future.result() for future in futures] == [reference(request) for request in requests]
    assert "out of memory" in caplog.text


def test_one_request_that_never_fits_the_memory_fails_and_the_engine_goes_on(engine, monkeypatch):
    forward = engine._runner.stages[0].forward

    def fits_short_ones(layout, inputs, hidden, **options):
        if int(layout.views(inputs).contexts.max()) > 30:
            raise torch.OutOfMemoryError("pretended")
        return forward(layout, inputs, hidden, **options)

    monkeypatch.setattr(engine._runner.stages[0], "forward", fits_short_ones)
    with pytest.raises(EngineError, match="40 prompt tokens"):
        engine.generate(GenerationRequest([1] * 40, 3, NO_STOP))
    assert len(engine.generate(GenerationRequest([1] * 4, 3, NO_STOP)).token_ids) == 3


def test_out_of_memory_of_one_short_request_leaves_the_others_their_steps(engine, monkeypatch):
    forward = engine._runner.stages[0].forward
    num_tries = 0

    def refuses_the_number_66(layout, inputs, hidden, **options):
        nonlocal num_tries
        if (layout.views(inputs).ids == 66).any():
            num_tries += 1
            raise torch.OutOfMemoryError("pretended")
        return forward(layout, inputs, hidden, **options)

    monkeypatch.setattr(engine._runner.stages[0], "forward", refuses_the_number_66)
    limits = engine._scheduler.limits
    with pytest.raises(EngineError, match="2 prompt tokens"):
        engine.generate(GenerationRequest([66, 1], 3, NO_STOP))
    assert num_tries == 2  # once more with the memory that was released
    assert engine._scheduler.limits == limits


def test_a_step_that_fails_before_its_copy_was_made_holds_no_page(monkeypatch):
    with contextlib.closing(PagedEngine(tiny_llama(), num_pages=4, page_size=8)) as engine:

        def generate(prompt, conversation=None):
            return engine.generate(GenerationRequest(prompt, 1, NO_STOP, conversation_id=conversation))

        for name in ("a", "b"):
            generate([*range(8), 20], name)  # both hold the same full page
        launch = engine._runner.launch

        def fails(plan):
            if any(66 in row.sequence.token_ids for row in plan.rows):
                raise RuntimeError("pretended")
            return launch(plan)

        monkeypatch.setattr(engine._runner, "launch", fails)
        with pytest.raises(EngineError, match="pretended"):
            generate([0, 1, 2, 3, 66, 66], "a")  # turns back into that page, which is to be copied first
        for name in ("a", "b"):
            engine.end_conversation(name)
        assert len(generate(list(range(30, 58))).token_ids) == 1  # which needs every page


@pytest.mark.parametrize(
    "changes", [{"prompt_ids": [1.5, 2]}, {"max_new_tokens": 1.5}, {"conversation_id": ["a list"]}]
)
def test_a_request_of_wrong_types_is_its_own_error(engine, changes):
    with pytest.raises(EngineError, match=r"not (float|list)"):
        engine.generate(
            GenerationRequest(**{"prompt_ids": [1, 2], "max_new_tokens": 2, "stop_ids": NO_STOP, **changes})
        )
    assert len(engine.generate(GenerationRequest([1] * 4, 3, NO_STOP)).token_ids) == 3


def test_close_finishes_what_runs_cancels_what_waits_and_leaves_no_thread():
    threads_before = set(threading.enumerate())
    model = tiny_llama()
    attention = model.config._attn_implementation
    engine = PagedEngine(model, num_pages=64, page_size=8, max_running=2)
    futures = [engine.submit(GenerationRequest([n + 1], 60, NO_STOP)) for n in range(10)]
    futures[0].result()
    engine.close()
    engine.close()
    outcomes = []
    for future in futures:
        try:
            outcomes.append(len(future.result(timeout=0).token_ids))
        except CancelledError:
            outcomes.append(None)
    assert outcomes[:2] == [60, 60]
    assert outcomes[-1] is None
    assert set(outcomes) == {60, None}
    assert threads_before == set(threading.enumerate())
    assert model.config._attn_implementation == attention
    with pytest.raises(EngineError, match="closed"):
        engine.submit(GenerationRequest([1], 1, NO_STOP))


@pytest.mark.parametrize("name", ["paged", "generate"])
def test_an_engine_that_is_dropped_frees_the_model_and_leaves_no_thread(name):
    """As in a notebook, where nobody closes what `del agent` drops, and the next model needs the memory."""
    threads_before = set(threading.enumerate())
    model = tiny_llama()
    engine = make_engine(name, model, **({"num_pages": 64, "page_size": 8} if name == "paged" else {}))
    future = engine.submit(GenerationRequest([1, 2], 5, NO_STOP))
    assert len(future.result().token_ids) == 5
    is_alive = weakref.ref(model)
    [thread] = set(threading.enumerate()) - threads_before
    del model, engine
    gc.collect()
    thread.join(60)
    gc.collect()
    assert not thread.is_alive()
    assert is_alive() is None


@pytest.mark.slow
def test_a_thousand_conversations_with_cancellations_leave_every_page_free():
    rng = random.Random(7)
    with contextlib.closing(PagedEngine(tiny_llama(), num_pages=80, page_size=8)) as engine:
        for start in range(0, 1000, 50):
            futures = []
            for number in range(start, start + 50):
                request = GenerationRequest(
                    [number % 90, 2, 3] * rng.randint(1, 8), 6, NO_STOP, conversation_id=f"{number}"
                )
                futures.append(engine.submit(request))
            for future in rng.sample(futures, 15):
                future.cancel()  # too late for some: those have their result
            for future in futures:
                if not future.cancelled():
                    assert len(future.result().token_ids) == 6
            for number in range(start, start + 50):
                engine.end_conversation(f"{number}")
        wait_until_idle(engine)
        use = engine.page_use()
        assert (use.num_free, use.num_idle) == (use.num_pages, 0)


def test_a_running_generation_can_be_cancelled(engine):
    long = engine.submit(GenerationRequest([1, 2], 100, NO_STOP))
    engine.generate(GenerationRequest([3], 2, NO_STOP))
    assert long.cancel()
    engine.generate(GenerationRequest([3], 2, NO_STOP))
    assert engine.counts().drawn_tokens < 100


def test_a_fatal_error_reaches_every_future_and_every_later_call(engine, monkeypatch):
    def breaks(*_):
        raise ZeroDivisionError("a bug")

    future = engine.submit(GenerationRequest([1, 2], 100, NO_STOP))
    monkeypatch.setattr(engine._scheduler.__class__, "plan", breaks)
    with pytest.raises(EngineError, match=r"stopped.*a bug"):
        future.result(10)
    with pytest.raises(EngineError, match="closed"):
        engine.submit(GenerationRequest([1], 1, NO_STOP))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            lambda: Qwen2ForCausalLM(
                Qwen2Config(
                    vocab_size=50,
                    hidden_size=16,
                    intermediate_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    use_sliding_window=True,
                    max_window_layers=1,
                    sliding_window=8,
                )
            ),
            "sliding_attention",
        ),
        (
            lambda: tiny_llama(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
            "dynamic",
        ),
    ],
    ids=["sliding", "dynamic-rope"],
)
def test_a_model_that_cannot_be_paged_is_refused_and_auto_serves_it_all_the_same(model, why):
    made = model().eval()
    with pytest.raises(EngineError, match=rf"{why}.*--engine generate"):
        make_engine("paged", made)
    with contextlib.closing(make_engine("auto", made)) as engine:
        assert isinstance(engine, GenerateEngine)


def test_a_model_whose_logits_are_not_numbers_is_refused_and_served_by_no_other_engine():
    made = tiny_llama().eval()
    made.model.layers[0].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"not numbers: .* overflow in float32\..*--dtype"):
        make_engine("auto", made)


def test_auto_is_the_paged_engine():
    with contextlib.closing(make_engine("auto", tiny_llama())) as engine:
        assert isinstance(engine, PagedEngine)
        assert (engine.vocab_size, engine.max_length) == (VOCAB_SIZE, CONTEXT)


def test_the_pages_keep_to_the_bytes_they_are_given():
    # A page of 8 tokens: keys and values of 2 layers with 2 heads of 8 float32.
    page_bytes = 2 * 8 * 2 * 2 * 8 * 4
    with contextlib.closing(PagedEngine(tiny_llama(), page_size=8, max_kv_bytes=10 * page_bytes + 1)) as engine:
        assert engine.page_use().num_pages == 10
    model = tiny_llama()
    attention = model.config._attn_implementation
    with pytest.raises(PlacementError, match="no room for a KV cache"):
        PagedEngine(model, page_size=8, max_kv_bytes=page_bytes - 1)
    assert model.config._attn_implementation == attention


def test_no_room_for_a_single_page_is_said_with_numbers(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(PlacementError, match="no room for a KV cache on cpu"):
        PagedEngine(tiny_llama())


def wait_until_idle(engine: PagedEngine) -> None:
    """Messages are taken in order, so what was said before this request has been done when it ends."""
    engine.generate(GenerationRequest([1], 1, NO_STOP))
    for _ in range(200):
        if not engine._scheduler.has_work and engine._loop._inbox.empty():
            return
        time.sleep(0.01)
