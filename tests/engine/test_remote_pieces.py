"""A generation in pieces, the words of requests and replies, and which server serves what: without any network."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.http_client.retry import RetryPolicy
from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.remote.pieces import Piece, PiecewiseGeneration
from evaluation.toolbench.inference.engine.remote.pool import Pool
from evaluation.toolbench.inference.engine.remote.settings import ServerSettings
from evaluation.toolbench.inference.engine.remote.wire import (
    completion_request,
    ranges_of,
    read_completion,
    token_grammar,
)
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling
from evaluation.toolbench.inference.errors import ConfigError, EngineError
from tests.helpers.engine import assert_allowed
from tests.helpers.fake_generation_server import FakeServer, ids_of_grammar, made_up_token

VOCAB_SIZE = 3000
MANY = TokenSet(range(100, 2900))  # more than a list may have
MODEL = FakeServer(max_model_len=10_000)
JSON = {"content-type": "application/json"}


def run(request, *, server=MODEL):
    """The result of a generation, and the pieces that it took."""
    generation = PiecewiseGeneration(request, request.max_new_tokens, vocab_size=VOCAB_SIZE)
    pieces = []
    while (piece := generation.next_piece()) is not None:
        pieces.append(piece)
        body = {"prompt": list(piece.prompt_ids), "max_tokens": piece.max_tokens, "return_token_ids": True}
        allowed = None if piece.allowed is None else piece.allowed.ids.tolist()
        reply = server.completion({**body, "stop_token_ids": piece.stop_ids}, allowed)
        generation.take(reply["choices"][0]["token_ids"])
    return generation.result(), pieces


def plainly(request):
    """The same generation, token by token, by the definition of a constraint and of its end."""
    ids, node, trie = [], TokenTrie.ROOT, request.constraint if isinstance(request.constraint, TokenTrie) else None
    while len(ids) < request.max_new_tokens:
        allowed = None
        if trie is not None:
            allowed = trie.allowed(node)
        elif request.constraint is not None:
            allowed = request.constraint.ids.tolist()
        ids.append(made_up_token([*request.prompt_ids, *ids], allowed))
        if ids[-1] in request.stop_ids or (trie is not None and ids[-1] == trie.end_id and bool(trie.is_end[node])):
            break
        if trie is not None:
            node = trie.step(node, ids[-1])
            if trie.is_leaf(node):
                break
    return tuple(ids)


tokens = st.integers(0, VOCAB_SIZE - 1)
constraints = st.one_of(
    st.none(),
    st.sets(tokens, min_size=1, max_size=5).map(TokenSet),
    st.just(MANY),
    st.sets(st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple), min_size=1, max_size=8).map(
        lambda sequences: TokenTrie(sequences, 2000)
    ),
)
requests = st.builds(
    GenerationRequest,
    prompt_ids=st.lists(tokens, min_size=1, max_size=6),
    max_new_tokens=st.integers(1, 90),
    stop_ids=st.sampled_from([TokenSet([]), TokenSet([2000]), TokenSet(range(0, 3000, 40)), TokenSet(range(30, 100))]),
    constraint=constraints,
)


@given(requests, st.sampled_from([None, 1, 7]))
def test_a_generation_in_pieces_is_the_generation(request, limit_of_the_checkpoint):
    if isinstance(request.constraint, TokenTrie):
        request = replace(request, stop_ids=TokenSet([2000]))
    result, pieces = run(request, server=replace(MODEL, max_new_tokens=limit_of_the_checkpoint))
    assert result.token_ids == plainly(request)
    assert_allowed(request, result)
    assert all(piece.max_tokens == 1 for piece in pieces if piece.allowed is MANY)
    assert all(len(piece.stop_ids) <= 64 for piece in pieces)


def test_an_action_is_one_request_and_a_text_too():
    stops = TokenSet([2000])
    for constraint, max_new_tokens in ((None, 50), (MANY, 1), (TokenSet([1, 2]), 5)):
        _, pieces = run(GenerationRequest([1], max_new_tokens, stops, constraint=constraint))
        assert [piece.max_tokens for piece in pieces] == [max_new_tokens]


def test_a_tool_token_after_a_prompt_is_found_with_a_request_for_one_token():
    """47,000 stop tokens are not sent: what comes after one is cut off here, and mostly not even generated."""
    stops = TokenSet([made_up_token([1]), *range(1000, 2900)])
    result, pieces = run(GenerationRequest([1], 500, stops))
    assert (len(result.token_ids), result.finish_reason) == (1, "stop")
    assert [(piece.max_tokens, piece.stop_ids) for piece in pieces] == [(1, ())]


def test_a_token_without_an_alternative_is_not_asked_for():
    trie = TokenTrie([(1, 2, 3, 4), (1, 2, 3, 5)], 2000)
    result, pieces = run(GenerationRequest([9], 10, TokenSet([2000]), constraint=trie))
    assert result.token_ids[:3] == (1, 2, 3)
    assert [list(piece.prompt_ids) for piece in pieces] == [[9, 1, 2, 3]]


def test_pieces_of_a_drawn_generation_have_seeds_of_their_own():
    """A server draws by its request's seed from the request's start: equal seeds would draw alike at each token."""
    sampling = Sampling(temperature=1.0, top_p=0.9, seed=5)
    _, pieces = run(GenerationRequest([1], 6, TokenSet([]), sampling, constraint=MANY))
    seeds = [piece.sampling.seed for piece in pieces]
    assert seeds[0] == 5
    assert len(set(seeds)) == 6
    assert {piece.sampling.top_p for piece in pieces} == {0.9}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_piece_asks_for_the_repetition_penalty(temperature):
    sampling = Sampling(temperature, top_k=7, repetition_penalty=1.1)
    _, pieces = run(GenerationRequest([1], 6, TokenSet([]), sampling, constraint=MANY))
    bodies = [json.loads(completion_request(piece, "toolgen", "grammar")) for piece in pieces]
    assert [body["repetition_penalty"] for body in bodies] == [1.1] * 6
    assert {body["top_k"] for body in bodies} == ({7} if temperature else {0})


@pytest.mark.parametrize(
    ("constraint", "ids", "message"),
    [
        (TokenSet([1, 2]), [1, 3], "token id 3, which is not among the 2 that were allowed"),
        (MANY, [50], "token id 50, which is not among the 2800"),
        (TokenTrie([(1, 2), (3, 4)], 2000), [2], "token id 2, which is not among the 2"),
        (None, [3000], "token id 3000, outside the vocabulary of 3000"),
        (None, [-1], "token id -1, outside"),
        (None, [], "returned no token"),
    ],
)
def test_a_token_that_was_not_allowed_is_an_error(constraint, ids, message):
    generation = PiecewiseGeneration(
        GenerationRequest([1], 4, TokenSet([2000]), constraint=constraint), 4, vocab_size=VOCAB_SIZE
    )
    generation.next_piece()
    with pytest.raises(EngineError, match=message):
        generation.take(ids)


@given(st.sets(tokens, min_size=1))
def test_a_grammar_is_its_set(ids):
    assert ids_of_grammar(token_grammar(TokenSet(ids))) == sorted(ids)
    ranges = ranges_of(sorted(ids))
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(ranges))


def test_a_request_leaves_nothing_to_the_checkpoints_settings():
    body = json.loads(completion_request(Piece([1, 2], 5, Sampling(), stop_ids=(7,)), "toolgen", None))
    assert body == {
        "model": "toolgen",
        "prompt": [1, 2],
        "max_tokens": 5,
        "min_tokens": 0,
        "n": 1,
        "echo": False,
        "stream": False,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "seed": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "stop": [],
        "stop_token_ids": [7],
        "ignore_eos": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "return_token_ids": True,
    }


@given(st.integers(0, 2**64 - 1))
def test_seeds_are_those_that_servers_take(seed):
    body = json.loads(completion_request(Piece([1], 1, Sampling(temperature=1.0, seed=seed)), "m", None))
    assert -(2**63) <= body["seed"] < 2**63
    assert body["seed"] % 2**64 == seed


def test_sets_are_written_in_the_way_that_is_safe():
    def fields(allowed, style):
        body = json.loads(completion_request(Piece([1], 1, Sampling(), allowed), "m", style))
        return {name: body[name] for name in ("allowed_token_ids", "structured_outputs") if name in body}

    small, large = TokenSet(range(1024)), TokenSet(range(1025))
    assert fields(small, "grammar") == fields(small, None) == {"allowed_token_ids": list(range(1024))}
    assert fields(large, "list") == {"allowed_token_ids": list(range(1025))}
    assert fields(large, "grammar") == {"structured_outputs": {"grammar": "start: <[0-1024]>"}}
    with pytest.raises(Failure, match="has not been shown to apply a set of 1025") as caught:
        fields(large, None)
    assert caught.value.kind == "refused"


def completion(**choice):
    return json.dumps({"choices": [{"finish_reason": "stop", "token_ids": [1], **choice}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, completion(finish_reason="abort"), "failed", "in the middle"),
        (200, completion(finish_reason=None), "failed", "in the middle"),
        (200, completion(token_ids=None), "unfit", "does not return token ids"),
        (200, completion(token_ids=["1"]), "failed", "not integers"),
        (200, completion(token_ids=[True]), "failed", "not integers"),
        (200, completion(token_ids=[]), "failed", "0 tokens where 1 to 3"),
        (200, completion(token_ids=[1] * 4), "failed", "4 tokens where 1 to 3"),
        (200, b'{"choices": []}', "failed", "not a completion"),
        (200, b'{"error": {"message": "EngineCore died"}}', "failed", "EngineCore died"),
        (200, b"<html>", "failed", "not a JSON object"),
        (200, b"[1]", "failed", "not a JSON object"),
        (301, b"", "unfit", "redirects"),
        (400, b'{"error": {"message": "bad\\nseed"}}', "refused", "status 400: bad seed"),
        (400, b'{"detail": "nope"}', "refused", "nope"),
        (401, b'{"error": "Unauthorized"}', "unfit", "set ENGINE_API_KEY"),
        (404, b"", "unfit", "status 404"),
        (422, b"words", "refused", "words"),
        (429, b"", "busy", "status 429"),
        (500, b"", "failed", "status 500"),
        (502, b"<html>Bad Gateway</html>", "busy", "status 502"),
        (503, b"", "busy", "status 503"),
    ],
)
def test_every_reply_that_is_no_answer_has_its_kind(status, body, kind, words):
    with pytest.raises(Failure, match=words) as caught:
        read_completion(status, JSON, body, 3)
    assert caught.value.kind == kind


def test_a_complete_answer_is_its_ids():
    assert read_completion(200, JSON, completion(token_ids=[4, 5], finish_reason="length"), 2) == [4, 5]


def test_a_server_may_say_when_to_come_back():
    with pytest.raises(Failure) as caught:
        read_completion(503, {"retry-after": "2"}, b"", 1)
    assert caught.value.retry_after_s == 2


def test_conversations_stay_and_new_ones_go_to_the_least_loaded():
    pool = Pool(2)
    for member in pool.members:
        pool.came_up(member)
    homes = [pool.choose(f"c{number}").number for number in range(6)]
    assert sorted(homes) == [0, 0, 0, 1, 1, 1]
    assert [pool.choose(f"c{number}").number for number in range(6)] == homes
    pool.end_conversation("c0")
    assert pool.choose("c6").number == homes[0]
    assert pool.choose(None) is not None


@given(st.lists(st.tuples(st.sampled_from(["ask", "end", "fail", "up", "succeed"]), st.integers(0, 5)), max_size=60))
def test_whatever_happens_a_conversation_is_served_by_a_server_that_is_up(events):
    pool = Pool(3)
    for event, number in events:
        member = pool.members[number % 3]
        if event == "ask":
            chosen = pool.choose(str(number))
            assert (chosen is None) == (not pool.is_any_up)
            if chosen is not None:
                assert chosen.is_up
                assert pool.choose(str(number)) is chosen
        elif event == "end":
            pool.end_conversation(str(number))
        elif event == "fail":
            pool.failed(member, "reason", at_once=number % 2 == 0)
        elif event == "up":
            pool.came_up(member)
        else:
            pool.succeeded(member)
    homes = [conversation for member in pool.members for conversation in member.conversations]
    assert len(homes) == len(set(homes))


def test_a_server_goes_down_after_three_failures_in_a_row_and_no_fewer():
    pool = Pool(1)
    [member] = pool.members
    pool.came_up(member)
    assert [pool.failed(member, "x", at_once=False) for _ in range(2)] == [False, False]
    pool.succeeded(member)
    assert [pool.failed(member, "x", at_once=False) for _ in range(4)] == [False, False, True, False]
    assert pool.choose("c") is None


def test_urls_are_read_as_people_write_them():
    settings = ServerSettings.of(" http://a:8000 ,https://b/llm/v1/,http://a:8000/v1")
    assert settings.urls == (httpx.URL("http://a:8000/v1"), httpx.URL("https://b/llm/v1"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"urls": ""}, "no generation server: pass --engine_url"),
        ({"urls": "localhost:8000"}, "with scheme and host"),
        ({"urls": "ftp://host/v1"}, "with scheme and host"),
        ({"urls": "http://[::1"}, "is not a URL"),
        ({"urls": "http://a", "constraints": "none"}, "unknown --engine_constraints 'none'"),
        ({"urls": "http://a", "wait_s": -1}, "--engine_wait must be 0 or more"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ServerSettings.of(**arguments)


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch):
    monkeypatch.setenv("ENGINE_API_KEY", " secret ")
    settings = ServerSettings.of("http://user:password@a")
    assert settings.api_key == "secret"
    assert "secret" not in repr(settings)
    assert "password" not in repr(settings)
    monkeypatch.setenv("ENGINE_API_KEY", "schlüssel")
    with pytest.raises(ConfigError, match="ENGINE_API_KEY has characters"):
        ServerSettings.of("http://a")


def test_waits_double_up_to_the_longest_and_are_not_the_same():
    policy, rng = RetryPolicy(first_wait_s=1, longest_wait_s=8), random.Random(0)
    waits = [policy.wait_s(number, rng) for number in range(8)]
    assert all(2**number / 2 <= wait <= min(2**number, 8) for number, wait in enumerate(waits[:3]))
    assert max(waits) <= 8
    assert policy.wait_s(0, rng, asked_for_s=5) == 5
    assert policy.wait_s(1000, rng) == 8
