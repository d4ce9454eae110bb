"""The server engine against a server that fails in every way that servers fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from evaluation.toolbench.http_client.retry import RetryPolicy
from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.remote.engine import ServerEngine
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.engine.remote.settings import ServerSettings
from evaluation.toolbench.inference.engine.request import GenerationRequest, ScoringRequest
from evaluation.toolbench.inference.errors import EngineError, EngineStoppedError, ServerError
from tests.helpers.fake_generation_server import (
    HTML,
    SEPARATOR,
    SPELLINGS,
    VOCAB_SIZE,
    FakeServer,
    error_answer,
    json_answer,
    knobs_for,
    made_up_scores,
    made_up_token,
    running,
)
from tests.helpers.pipeline import TOKENS, World, api_server, run_here

END = TokenSet([2000])
MANY = TokenSet(range(500, 2900))
QUICK = RetryPolicy(failures=3, first_wait_s=0.01, longest_wait_s=0.05)
NEEDS = Needs("/here/toolgen", VOCAB_SIZE, 200, SPELLINGS, SEPARATOR, largest_set=len(MANY))


@contextlib.contextmanager
def engine_over(*servers, needs=NEEDS, constraints="auto", **changes):
    given = ServerSettings.of(",".join(server.url for server in servers), constraints=constraints)
    settings = ServerSettings(
        given.urls,
        constraints=given.constraints,
        **{"wait_s": 20.0, "retry": QUICK, "api_key": given.api_key, **changes},
    )
    with contextlib.closing(ServerEngine(settings, needs)) as engine:
        yield engine


@pytest.fixture
def fake():
    with running(FakeServer()) as server:
        yield server


def request(prompt=(1, 2, 3, 4), max_new_tokens=6, constraint=None, conversation_id="c"):
    return GenerationRequest(prompt, max_new_tokens, END, constraint=constraint, conversation_id=conversation_id)


def expected(prompt=(1, 2, 3, 4), max_new_tokens=6, allowed=None):
    ids = []
    while len(ids) < max_new_tokens and ids[-1:] != [2000]:
        ids.append(made_up_token([*prompt, *ids], allowed))
    return tuple(ids)


def test_generations_of_all_kinds_come_back(fake):
    with engine_over(fake) as engine:
        assert (engine.vocab_size, engine.max_length) == (VOCAB_SIZE, 200)
        assert engine.generate(request()).token_ids == expected()
        many = engine.generate(request(constraint=MANY, max_new_tokens=1))
        assert many.token_ids == expected(max_new_tokens=1, allowed=MANY.ids.tolist())
        assert fake.requests[-1]["structured_outputs"] == {"grammar": "start: <[500-2899]>"}
        trie = TokenTrie([(7, 8), (7, 9)], 2000)
        assert engine.generate(request(constraint=trie)).token_ids in {(7, 8), (7, 9)}


def test_errors_of_a_request_are_its_own(fake):
    with engine_over(fake) as engine:
        wrong = engine.submit(request(prompt=[VOCAB_SIZE]))
        right = engine.submit(request())
        with pytest.raises(EngineError, match="outside the model's vocabulary"):
            wrong.result()
        assert right.result().token_ids == expected()


def assert_scored(result, allowed, num_best, prompt=(1, 2, 3, 4)):
    scores = made_up_scores(list(prompt))
    best = sorted(allowed, key=lambda token: -scores[token])[:num_best]
    assert list(result.token_ids) == best
    assert result.log_probabilities == pytest.approx([scores[token] for token in best])


def test_scorings_come_back_as_the_servers_own_log_probabilities(fake):
    prompt = (1, 2, 3, 4)
    scores = made_up_scores(list(prompt))
    likeliest = sorted(range(VOCAB_SIZE), key=lambda token: -scores[token])
    wide = TokenSet([*likeliest[:12], *likeliest[30:2000]])
    trie = TokenTrie([[7, 8], [7]], 2000)
    with engine_over(fake) as engine:
        assert_scored(engine.score(ScoringRequest(prompt, 20)).result(), range(VOCAB_SIZE), 20)
        assert_scored(engine.score(ScoringRequest(prompt, 12, wide)).result(), wide.ids.tolist(), 12)
        assert_scored(engine.score(ScoringRequest(prompt, 3, TokenSet(likeliest[90:95]))).result(), likeliest[90:95], 3)
        assert_scored(engine.score(ScoringRequest(prompt, 3, trie)).result(), [7], 3)
        assert_scored(engine.score(ScoringRequest(prompt, 3, trie, trie.step(0, 7))).result(), [8, 2000], 3)


def test_the_best_of_a_large_set_that_a_server_does_not_tell_are_an_error_that_says_why(fake):
    scores = made_up_scores([1, 2, 3, 4])
    unlikely = sorted(range(VOCAB_SIZE), key=lambda token: scores[token])[:2000]
    with engine_over(fake) as engine:
        wrong = engine.score(ScoringRequest((1, 2, 3, 4), 10, TokenSet(unlikely)))
        with pytest.raises(EngineError, match="20 likeliest tokens, and 0 of these are among the 2000 allowed ones"):
            wrong.result()


def test_a_server_scores_nothing_with_a_repetition_penalty(fake):
    with engine_over(fake) as engine:
        wrong = engine.score(ScoringRequest((1, 2, 3, 4), 1, repetition_penalty=1.1))
        with pytest.raises(EngineError, match=r"repetition penalty of 1\.1"):
            wrong.result()


@pytest.mark.parametrize("field", ["logprobs", "prompt_logprobs"])
def test_a_server_without_log_probabilities_is_not_taken_for_one_with(fake, field):
    fake.ignored_fields = frozenset([field])
    with engine_over(fake) as engine:
        scoring = engine.score(ScoringRequest((1, 2, 3, 4), 1, TokenSet([5])))
        with pytest.raises(EngineError, match=field):
            scoring.result()


def test_a_refused_request_is_final_and_quotes_the_server(fake):
    with engine_over(fake) as engine:
        fake.upcoming.append(error_answer(400, "guided decoding is\nswitched off"))
        with pytest.raises(EngineError, match=r"at http://127.0.0.1:\d+/v1 answered with status 400: guided decoding"):
            engine.generate(request())
        assert len(fake.generations()) == 1
        assert engine.generate(request()).token_ids == expected()


ABORTED = json_answer({"choices": [{"finish_reason": "abort", "token_ids": [2001]}]})
PASSING = {
    "500": error_answer(500, "EngineCore encountered an issue"),
    "502": (502, "text/html", b"<html>Bad Gateway</html>"),
    "503": error_answer(503, "overloaded"),
    "abort with a partial text": ABORTED,
    "an error under status 200": json_answer({"error": {"message": "engine is dead"}}),
    "HTML under status 200": HTML,
    "JSON that is no completion": json_answer({"choices": None}),
    "no tokens": json_answer({"choices": [{"finish_reason": "length", "token_ids": []}]}),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again_and_never_a_result(fake, name):
    with engine_over(fake) as engine:
        fake.upcoming.extend([PASSING[name]] * 2)
        assert engine.generate(request()).token_ids == expected()
        assert len(fake.generations()) == 3


@pytest.mark.parametrize("name", ["500", "abort with a partial text", "HTML under status 200"])
def test_what_does_not_pass_ends_in_an_error_of_that_request(fake, name):
    def poisoned(body):
        return PASSING[name] if body["prompt"][:2] == [6, 6] else None

    with engine_over(fake) as engine:
        fake.always = poisoned
        with pytest.raises(EngineError, match="the last of 4 times"):
            engine.generate(request(prompt=[6, 6, 6, 6]))
        assert engine.generate(request()).token_ids == expected()


def test_a_storm_of_503_is_waited_out(fake):
    """Longer than the retries of other failures, and for all conversations at once."""
    with engine_over(fake) as engine, ThreadPoolExecutor(8) as pool:
        fake.always = lambda _: error_answer(503, "overloaded")
        futures = [pool.submit(engine.generate, request(conversation_id=str(i))) for i in range(8)]
        time.sleep(0.5)
        assert not any(future.done() for future in futures)
        fake.always = None
        assert {future.result().token_ids for future in futures} == {expected()}


def test_a_server_that_is_busy_for_good_is_given_up(fake):
    with engine_over(fake, wait_s=0.3) as engine:
        fake.always = lambda _: error_answer(503, "overloaded")
        with pytest.raises(EngineError, match="503: overloaded"):
            engine.generate(request())


DEEP = (200, "application/json", b"[" * 10_000 + b"]" * 10_000)
ODD_REPLIES = {
    "nested 10,000 deep": DEEP,
    "a number": (200, "application/json", b"1.5"),
    "no text": (200, "application/json", b"\xff\xfe\xff"),
    "numbers where lists are": json_answer({"data": 1.5, "version": 1.5, "tokens": 1.5, "choices": 1.5}),
    "objects where texts are": json_answer({"data": [{"id": {}}], "version": {}, "tokens": [{}], "choices": [[]]}),
    "an error nested deep": (400, "application/json", DEEP[2]),
    "an error without words": json_answer({"error": {"message": [{}]}}, 500),
}


@pytest.mark.parametrize("name", ODD_REPLIES)
@pytest.mark.parametrize("path", ["/v1/models", "/version", "/tokenize", "/v1/completions"])
def test_a_reply_that_is_nonsense_is_a_typed_error_in_one_line(fake, path, name):
    fake.replies[path] = ODD_REPLIES[name]
    if path == "/version":  # which is good to know and no more
        with engine_over(fake) as engine:
            assert engine.generate(request()).token_ids == expected()
        return
    with pytest.raises(ServerError) as error, engine_over(fake):
        pass
    assert "\n" not in str(error.value)


REFUSALS = {
    "401": error_answer(401, "Unauthorized"),
    "301": (301, "text/html", b""),
    "404": error_answer(404, "no route"),
    "500": error_answer(500, "EngineCore died"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", REFUSALS)
def test_a_server_that_is_healthy_and_refuses_every_generation_is_given_up(fake, caplog, name):
    """However often its handshake succeeds, and at once: not after a patience that it renews again and again."""
    with engine_over(fake, wait_s=300.0) as engine, ThreadPoolExecutor(4) as pool:
        fake.always = lambda body: REFUSALS[name] if len(body["prompt"]) > 3 else None
        futures = [pool.submit(_until_it_ends, engine, str(number)) for number in range(4)]
        for future in futures:
            assert f"status {name}" in str(future.result())
            assert "5 times although its handshake succeeds" in str(future.result())
    assert len(caplog.records) <= 20


def _until_it_ends(engine, conversation_id):
    for _ in range(1000):
        try:
            engine.generate(request(conversation_id=conversation_id))
        except ServerError as error:
            return error
        except EngineError:
            continue  # of this request alone
    raise AssertionError("no end")


@pytest.mark.timeout(120)
def test_a_status_that_comes_and_goes_costs_tries_and_few_lines(fake, caplog):
    turn = itertools.count()

    def every_other_time(body):
        return REFUSALS["401"] if len(body["prompt"]) > 3 and next(turn) % 2 else None

    with engine_over(fake) as engine:
        fake.always = every_other_time
        for number in range(30):
            assert engine.generate(request(conversation_id=str(number))).token_ids == expected()
    assert len(caplog.records) <= 20
    assert "told no more" in caplog.records[-1].message


@pytest.mark.timeout(60)
def test_a_request_that_alone_is_refused_ends_alone(fake):
    """As by a filter before the server that dislikes what is in it."""
    with engine_over(fake) as engine:
        fake.always = lambda body: error_answer(403, "no") if body["prompt"][:2] == [6, 6] else None
        with ThreadPoolExecutor(2) as pool:
            bad = pool.submit(engine.generate, request(prompt=[6, 6, 6, 6]))
            while not bad.done():
                assert engine.generate(request()).token_ids == expected()
            with pytest.raises(EngineError, match="the last of 4 times"):
                bad.result()
        assert engine.generate(request()).token_ids == expected()


@pytest.mark.timeout(60)
def test_closing_ends_although_a_cancellation_was_lost(fake, monkeypatch):
    """As asyncio.wait_for loses one now and then that comes with the result, in Python before 3.12."""
    began = threading.Event()

    async def handshake(endpoint, *_):
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)
        raise Failure("lost", "is away")

    with engine_over(fake, wait_s=0.3) as engine:
        monkeypatch.setattr("evaluation.toolbench.inference.engine.remote.engine.shake_hands", handshake)
        fake.always = lambda _: error_answer(503, "overloaded")
        with pytest.raises(EngineError, match="503: overloaded"):
            engine.generate(request())
        assert began.wait(30)


def test_a_body_that_comes_byte_by_byte_meets_the_time_limit_of_the_whole_request(fake):
    with engine_over(fake, timeout_s=0.5, wait_s=0.5) as engine:
        fake.trickle_s = 0.05
        started = time.monotonic()
        with pytest.raises(EngineError, match=r"did not answer within 0\.5 s"):
            engine.generate(request())
        assert time.monotonic() - started < 10


VIOLATIONS = {
    "a token that was not allowed": (MANY, 1, [7], "token id 7, which is not among the 2400"),
    "a token of another vocabulary": (None, 1, [99_999], "token id 99999, outside the vocabulary"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_wrong_ids_are_an_error_and_never_an_action(fake, name):
    constraint, max_new_tokens, ids, message = VIOLATIONS[name]
    with engine_over(fake) as engine:
        fake.upcoming.append(json_answer({"choices": [{"finish_reason": "length", "token_ids": ids}]}))
        with pytest.raises(EngineError, match=message):
            engine.generate(request(constraint=constraint, max_new_tokens=max_new_tokens))


def test_a_conversation_keeps_its_server_and_others_share_the_rest(fake):
    with running(FakeServer()) as other, engine_over(fake, other) as engine:
        for _ in range(3):
            for number in range(4):
                engine.generate(request(prompt=[number, 9, 9, 9], conversation_id=str(number)))
        seen = [{body["prompt"][0] for body in server.generations()} for server in (fake, other)]
        assert sorted(map(len, seen)) == [2, 2]
        assert not seen[0] & seen[1]


class Mortal:
    """A fake server that can die and come back at the same URL."""

    def __init__(self, **knobs):
        self._stack = contextlib.ExitStack()
        self.start(**knobs)

    def start(self, **knobs):
        port = int(self.url.rpartition(":")[2].removesuffix("/v1")) if hasattr(self, "url") else 0
        self.fake = self._stack.enter_context(running(FakeServer(**knobs), port))
        self.url = self.fake.url

    def die(self):
        self._stack.close()


@pytest.fixture
def mortal():
    server = Mortal()
    yield server
    server.die()


def wait_for(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_a_run_goes_on_without_the_server_that_dies_and_uses_it_again_when_it_is_back(fake, mortal, caplog):
    with engine_over(fake, mortal) as engine:
        for name in ("a", "b"):
            engine.generate(request(conversation_id=name))
        assert len(mortal.fake.generations()) == 1
        mortal.die()
        for name in ("a", "b"):
            assert engine.generate(request(conversation_id=name)).token_ids == expected()
        assert "going on with the others" in caplog.text
        mortal.start()
        wait_for(lambda: "is back" in caplog.text)
        engine.generate(request(conversation_id="new"))
        assert mortal.fake.generations()


def test_a_run_waits_for_the_only_server(mortal, caplog):
    with engine_over(mortal) as engine, ThreadPoolExecutor(4) as pool:
        mortal.die()
        futures = [pool.submit(engine.generate, request(conversation_id=str(i))) for i in range(4)]
        wait_for(lambda: "waiting up to 20 s for one" in caplog.text)
        assert not any(future.done() for future in futures)
        mortal.start()
        assert {future.result().token_ids for future in futures} == {expected()}


def test_a_run_without_servers_ends_after_its_patience(mortal):
    with engine_over(mortal, wait_s=0.2) as engine:
        mortal.die()
        for _ in range(2):
            with pytest.raises(ServerError, match=r"no generation server for 0\.2 s .*refused.* same command again"):
                engine.generate(request())
        mortal.start()
        wait_for(lambda: engine.submit(request()).exception() is None)


def test_a_server_that_comes_back_as_another_is_not_used(mortal, caplog):
    with engine_over(mortal, wait_s=1.0) as engine:
        mortal.die()
        with pytest.raises(ServerError):
            engine.generate(request())
        mortal.start(ignored_fields=frozenset({"allowed_token_ids"}))
        wait_for(lambda: "ignores allowed_token_ids" in caplog.text)
        with pytest.raises(ServerError, match="ignores allowed_token_ids"):
            engine.generate(request())
        assert not mortal.fake.generations()


def test_one_of_two_servers_may_be_missing_at_the_start(fake, mortal, caplog):
    mortal.die()
    with engine_over(fake, mortal) as engine:
        assert "going on without it until it answers" in caplog.text
        assert engine.generate(request()).token_ids == expected()
        mortal.start()
        wait_for(lambda: "is back" in caplog.text)


def test_closing_lets_running_requests_end_and_cancels_what_waits(fake, mortal):
    with engine_over(mortal) as waiting:
        mortal.die()
        future = waiting.submit(request())
        time.sleep(0.2)
        waiting.close()
        with pytest.raises(CancelledError):
            future.result()
        with pytest.raises(EngineStoppedError, match="closed"):
            waiting.submit(request())
        waiting.end_conversation("c")
    with engine_over(fake) as engine:
        fake.delay_s = 0.3
        running_one = engine.submit(request())
        wait_for(fake.generations)
        engine.close()
        assert running_one.result(0).token_ids == expected()


UNFIT = {
    "another model": (
        {"name": "other", "root": "/x/base"},
        {},
        "serves other, not /here/toolgen: start it with that model, or, .* --engine_model",
    ),
    "too small a context": ({"max_model_len": 100}, {}, "takes conversations of 100 tokens, and this run needs 200"),
    "another tokenizer": ({"token_shift": 5}, {}, r"reads <<A&&b>><\|eot_id\|> as token ids \[2006, 2005, 2007\]"),
    "a base model's tokenizer": ({"tokenize": json_answer({"tokens": [1, 2]})}, {}, "reads <<A&&b>>"),
    "no tokenizer": ({"tokenize": error_answer(404, "Not Found")}, {}, "has no /tokenize beside /v1"),
    "a wrong key": ({"api_key": "secret"}, {}, "refuses the key .*set ENGINE_API_KEY"),
    "no OpenAI server": ({"models": error_answer(404, "Not Found")}, {}, "has no /v1/models.*--engine_url is like"),
    "another list": ({"models": json_answer([])}, {}, "not a JSON object"),
    "a list of something": ({"models": json_answer({"models": []})}, {}, "does not list its models"),
    "a login page": ({"models": HTML}, {}, r"not a JSON object \(text/html"),
    "no token ids": ({"ignored_fields": frozenset({"return_token_ids"})}, {}, "does not return token ids"),
    "no stop tokens": ({"ignored_fields": frozenset({"stop_token_ids"})}, {}, "does not end a generation"),
    "no constraints": ({"ignored_fields": frozenset({"allowed_token_ids"})}, {}, "ignores allowed_token_ids"),
    "no grammars": ({"grammars_work": False}, {}, "start it with --structured-outputs-config .*guidance"),
    "ignored grammars": ({"ignored_fields": frozenset({"structured_outputs"})}, {}, "does not keep to a set"),
    "lists that are no use": (
        {"ignored_fields": frozenset({"allowed_token_ids"})},
        {"constraints": "list"},
        "ignores allowed_token_ids",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_server_that_is_not_what_it_should_be_is_refused_in_one_line(name):
    knobs, changes, message = UNFIT[name]
    with running(FakeServer(**knobs)) as fake, pytest.raises(ServerError, match=message) as caught:
        engine_over(fake, **changes).__enter__()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("the generation server at http://127.0.0.1:", "no generation server: http"))
    assert caught.value.exit_code == 2


def test_long_lists_are_never_tried_on_a_release_that_they_might_stop():
    """vLLM 0.23 and later, on a GPU: more than 1,024 ids end the server, and whoever else uses it."""
    with running(FakeServer(list_limit=1024, grammars_work=False)) as fake:
        with pytest.raises(ServerError, match="VLLM_USE_V2_MODEL_RUNNER=0"):
            engine_over(fake).__enter__()
        assert all(len(body.get("allowed_token_ids", ())) <= 1024 for body in fake.requests)
    with running(FakeServer(list_limit=1024)) as fake, engine_over(fake) as engine:
        assert engine.generate(request(constraint=MANY, max_new_tokens=1)).token_ids[0] in MANY


@pytest.mark.parametrize(
    ("version", "constraints", "field"),
    [
        ("0.22.1", "auto", "allowed_token_ids"),
        ("0.32.0", "list", "allowed_token_ids"),
        ("0.32.0", "grammar", "structured_outputs"),
        ("0.22.1", "grammar", "structured_outputs"),
    ],
)
def test_large_sets_are_written_as_the_release_and_the_user_allow(version, constraints, field):
    works = field == "structured_outputs"
    with running(FakeServer(version=version, grammars_work=works)) as fake:
        with engine_over(fake, constraints=constraints) as engine:
            assert engine.generate(request(constraint=MANY, max_new_tokens=1)).token_ids[0] in MANY
        assert field in fake.requests[-1]


def test_a_run_without_large_sets_needs_no_grammar():
    needs = Needs("toolgen", VOCAB_SIZE, 200, SPELLINGS, SEPARATOR)
    with running(FakeServer(grammars_work=False)) as fake, engine_over(fake, needs=needs) as engine:
        assert engine.generate(request(constraint=TokenSet([1, 2]))).token_ids[0] in (1, 2)
        with pytest.raises(EngineError, match="has not been shown to apply a set of 2400"):
            engine.generate(request(constraint=MANY))


def test_a_model_of_another_name_is_taken_on_the_users_word():
    with running(FakeServer(name="other", root="/x/base")) as fake, engine_over(fake, model="other") as engine:
        assert engine.generate(request()).token_ids == expected()


def test_no_server_there_says_what_to_start():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(ServerError, match=r"no server listens there.*Start one with scripts/serve_vllm\.sh"):
        engine_over(FakeServer(url=url)).__enter__()


def test_the_key_is_sent_and_never_said(monkeypatch, caplog):
    monkeypatch.setenv("ENGINE_API_KEY", "the-secret")
    caplog.set_level("DEBUG")
    with running(FakeServer(api_key="the-secret")) as fake, engine_over(fake) as engine:
        assert engine.generate(request()).token_ids == expected()
        fake.api_key = "another"
        with pytest.raises(ServerError) as caught:
            engine_over(fake).__enter__()
    assert "the-secret" not in caplog.text + str(caught.value) + repr(caught.value)


def test_a_key_over_plain_http_to_another_machine_is_warned_of(monkeypatch, caplog):
    monkeypatch.setenv("ENGINE_API_KEY", "secret")
    settings = ServerSettings.of("http://nowhere.invalid:8000")
    with pytest.raises(ServerError, match="its host name is not known"):
        ServerEngine(ServerSettings(settings.urls, retry=QUICK, api_key=settings.api_key), NEEDS)
    assert "ENGINE_API_KEY is sent unencrypted to nowhere.invalid" in caplog.text


def test_https_to_a_server_without_tls_says_so(fake):
    fake.url = fake.url.replace("http:", "https:")
    with pytest.raises(ServerError, match="it does not speak TLS as expected"):
        engine_over(fake).__enter__()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_that_nobody_vouches_for_is_refused_until_it_is_trusted(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    for_localhost = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *for_localhost]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running(FakeServer(), tls=context) as fake:
        fake.url = fake.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ServerError, match=r"its TLS certificate is not trusted .*SSL_CERT_FILE"):
            engine_over(fake).__enter__()
        plain = FakeServer(url=fake.url.replace("https", "http"))
        with pytest.raises(ServerError, match="does the URL need https://, or"):
            engine_over(plain).__enter__()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with engine_over(fake) as engine:
            assert engine.generate(request()).token_ids == expected()


def test_a_run_that_loses_its_only_server_ends_after_its_patience_and_the_same_command_goes_on(tmp_path):
    world = World(tmp_path)
    world.make_checkpoint()
    knobs = {**knobs_for(world.model, TOKENS), "delay_s": 0.02}
    server = Mortal(**knobs)
    flags = world.flags(
        tmp_path / "answers", engine="server", engine_url=server.url, engine_wait=1, num_thread=2, dtype=None
    )
    answers = tmp_path / "answers"
    with api_server(tmp_path) as service_url, ThreadPoolExecutor(1) as pool:
        dies = pool.submit(lambda: (wait_for(lambda: list(answers.glob("*_CoT@1.json"))), server.die()))
        run = run_here(flags, service_url)
        dies.result()
        assert run.returncode == 2, run.stderr
        assert "no generation server for 1 s (--engine_wait)" in run.stderr.splitlines()[-1]
        assert run.stderr.splitlines()[-1].endswith("start a server and run the same command again")
        assert not world.all_answers <= world.answer_names(answers)
        server.start(**knobs)
        again = run_here(flags, service_url)
        server.die()
    assert again.returncode == 0, again.stderr
    assert world.all_answers <= world.answer_names(answers)
    assert "failures.json" not in world.answer_names(answers)
