"""The client: every way a server can fail becomes an observation and the contract's status code."""

from __future__ import annotations

import copy
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import ApiError, ConfigError
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.replies import CODE_OF_ERROR, read_reply
from evaluation.toolbench.virtual_api.retry_policy import CallRetryPolicy

CALL = {"category": "Data", "tool_name": "t", "api_name": "a", "tool_input": "{}", "strip": "truncate"}
QUICK = CallRetryPolicy(
    failures=2,
    unreachable_s=0.1,
    first_wait_s=0.01,
    rate_limits=1,
    first_rate_limit_wait_s=0.01,
    longest_wait_s=0.05,
)
GOOD = {"error": "", "response": "fine"}

Answer = tuple[int, bytes, dict[str, str]]


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, content, {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def serving(respond: Callable[[int], Answer]) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """A server whose n-th POST is answered by `respond(n)`: its URL, and the requests that came."""
    requests: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            requests.append({**body, "header": self.headers["toolbench_key"]})
            status, content, headers = respond(len(requests) - 1)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/virtual", requests
    finally:
        server.shutdown()
        server.server_close()


def test_a_good_answer_is_code_0_and_the_request_is_the_contracts() -> None:
    with serving(lambda _: answer(GOOD)) as (url, requests), ApiClient(url, toolbench_key="k", retry=QUICK) as client:
        assert client.call(**CALL) == (json.dumps(GOOD), 0)
    assert requests == [{**CALL, "toolbench_key": "k", "header": "k"}]


@pytest.mark.parametrize(("error", "code"), CODE_OF_ERROR.items())
def test_the_six_special_errors_reach_the_model_with_their_code(error: str, code: int) -> None:
    """Upstream throws these replies away and says that the function does not exist (D1)."""
    reply = {"error": error, "response": "details"}
    with serving(lambda _: answer(reply)) as (url, _), ApiClient(url, retry=QUICK) as client:
        assert client.call(**CALL) == (json.dumps(reply), code)


def test_other_error_texts_are_code_0() -> None:
    reply = {"error": "Failed to generate fake response", "response": ""}
    with serving(lambda _: answer(reply)) as (url, _), ApiClient(url, retry=QUICK) as client:
        assert client.call(**CALL) == (json.dumps(reply), 0)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"null", b'{"response": 1}', b"\xff\xfe", b"[" * 200_000])
def test_a_reply_that_is_no_answer_is_code_12(body: bytes) -> None:
    with serving(lambda _: answer(body)) as (url, _), ApiClient(url, retry=QUICK) as client:
        assert client.call(**CALL) == (json.dumps({"error": "request invalid, data error", "response": ""}), 12)


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (404, 1), (422, 1), (429, 3), (500, 3), (503, 3)])
def test_only_failures_that_may_pass_are_tried_again(status: int, tries: int) -> None:
    with serving(lambda _: answer(b"no", status)) as (url, requests), ApiClient(url, retry=QUICK) as client:
        observation, code = client.call(**CALL)
    assert json.loads(observation)["error"] == f"request invalid, data error. status_code={status}"
    assert code == 12
    assert len(requests) == tries


def test_a_server_that_recovers_costs_nothing_but_time() -> None:
    with (
        serving(lambda n: answer(b"", 503) if n < 2 else answer(GOOD)) as (url, _),
        ApiClient(url, retry=QUICK) as client,
    ):
        assert client.call(**CALL) == (json.dumps(GOOD), 0)
        assert client.stats().retries == 2


def test_a_replayed_rate_limit_is_not_waited_for() -> None:
    limited = {"error": "Too many requests error...", "response": ""}
    with serving(lambda _: answer(limited, x_cache="HIT")) as (url, requests), ApiClient(url, retry=QUICK) as client:
        assert client.call(**CALL)[1] == 9
    assert len(requests) == 1


def test_nobody_there_is_no_observation_but_an_error_that_says_what_to_do() -> None:
    with ApiClient("http://127.0.0.1:9/virtual", retry=QUICK) as client:
        with pytest.raises(ApiError, match=r"at http://127.0.0.1:9/virtual could not be reached .* set SERVICE_URL"):
            client.call(**CALL)
        assert client.stats().calls_by_code == {12: 1}


def test_a_server_that_never_answers_is_code_5_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/virtual"
        with ApiClient(url, timeout_s=0.3, retry=QUICK) as client:
            assert client.call(**CALL) == (json.dumps({"error": "Timeout error...", "response": ""}), 5)


def test_a_server_that_drips_bytes_meets_the_same_limit() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: drip(listener.accept()[0]), daemon=True).start()
        with ApiClient(f"http://127.0.0.1:{listener.getsockname()[1]}/virtual", timeout_s=0.4, retry=QUICK) as client:
            assert client.call(**CALL)[1] == 5


def test_a_huge_response_is_not_read_to_its_end() -> None:
    with (
        serving(lambda _: answer({"error": "", "response": "x" * 2_000_000})) as (url, _),
        ApiClient(url, retry=QUICK, max_response_bytes=100_000) as client,
    ):
        assert client.call(**CALL)[1] == 12


def test_many_threads_share_one_client() -> None:
    with serving(lambda _: answer(GOOD)) as (url, _), ApiClient(url, retry=QUICK) as client:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: client.call(**CALL), range(64)))
        assert replies == [(json.dumps(GOOD), 0)] * 64
        assert client.stats().calls == 64
        assert client.stats().errors == 0


def test_closing_ends_calls_in_flight() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = ApiClient(f"http://127.0.0.1:{silent.getsockname()[1]}/virtual", retry=QUICK)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.call, **CALL)
            silent.accept()
            client.close()
            with pytest.raises(ApiError, match="closed"):
                call.result(5)
    client.close()
    with pytest.raises(ApiError, match="closed"):
        client.call(**CALL)


def test_environments_that_are_copied_share_the_client() -> None:
    with ApiClient("http://127.0.0.1:9/virtual") as client:
        assert copy.deepcopy({"client": client})["client"] is client


def test_check_calls_no_api() -> None:
    with serving(lambda _: answer(GOOD)) as (url, requests), ApiClient(url) as client:
        with pytest.raises(ApiError, match="status 501"):  # this server does not even know GET
            client.check(tries=1)
        assert requests == []


def test_check_says_in_one_line_that_nobody_is_there() -> None:
    client = ApiClient("http://user:pass@127.0.0.1:9/virtual?key=1", retry=QUICK)
    with client, pytest.raises(ApiError) as raised:
        client.check(tries=2)
    told = str(raised.value)
    assert "No virtual API server at http://127.0.0.1:9/virtual (refused, 2 tries" in told
    assert "SERVICE_URL" in told
    assert "pass" not in told


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x/virtual", "http://", "", "http://[::1"])
def test_a_wrong_url_names_the_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="SERVICE_URL"):
        ApiClient(url)


def test_a_key_that_no_header_can_carry_is_refused_without_quoting_it() -> None:
    with pytest.raises(ConfigError) as raised:
        ApiClient("http://127.0.0.1:9/virtual", toolbench_key="geheim\nx: y")
    assert "geheim" not in str(raised.value)


def test_a_key_sent_unencrypted_over_a_network_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    ApiClient("http://203.0.113.7/virtual", toolbench_key="geheim").close()
    assert "unencrypted to http://203.0.113.7/virtual" in caplog.text
    assert "geheim" not in caplog.text


@given(status=st.integers(100, 599), body=st.binary(max_size=200))
def test_every_reply_has_a_code_and_an_observation_that_is_json(status: int, body: bytes) -> None:
    reply = read_reply(status, body)
    assert set(json.loads(reply.observation)) >= {"error"}
    assert reply.code in {0, 12, *CODE_OF_ERROR.values()}
