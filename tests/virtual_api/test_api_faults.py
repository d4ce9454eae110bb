"""API servers that die, come back, stall, flood and lie: only the calls concerned suffer, within bounds."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import ApiError
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.retry_policy import CallRetryPolicy

GOOD = {"error": "", "response": "fine"}
GOOD_REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 33\r\n\r\n" + json.dumps(GOOD).encode()
QUICK = CallRetryPolicy(failures=1, unreachable_s=0.1, first_wait_s=0.01, longest_wait_s=0.05)


CALL = {"category": "Data", "tool_name": "t", "api_name": "good", "tool_input": "{}", "strip": "truncate"}


def call(client: ApiClient, api_name: str = "good") -> tuple[str, int]:
    return client.call(**{**CALL, "api_name": api_name})


@contextmanager
def raw_server(behave: Callable[[socket.socket, str], None], port: int = 0) -> Iterator[str]:
    """A server that reads each POST whole and then leaves the connection to `behave(connection, api_name)`.

    To anything else it says that it takes POST alone, as API servers do.
    """
    listener = socket.create_server(("127.0.0.1", port))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while request := _read_request(connection):
                    behave(connection, json.loads(request)["api_name"])
            except OSError:
                pass  # the client has gone, or `behave` has closed the connection

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/virtual"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _read_request(connection: socket.socket) -> bytes:
    """The body of the next request, b"" when there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        head += chunk
        if head.startswith(b"GET") and b"\r\n\r\n" in head:
            connection.sendall(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")
            head = b""
    head, body = head.split(b"\r\n\r\n", 1)
    [length] = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < length:
        body += connection.recv(65536)
    return body


def flood(connection: socket.socket, num_bytes: int = 50_000_000, *, chunked: bool = False) -> None:
    """50 MB of a JSON string, made 64 KiB at a time."""
    if chunked:
        connection.sendall(
            b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1b\r\n{"error": "", "response": "\r\n'
        )
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    else:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % num_bytes
        connection.sendall(head + b'{"error": "", "response": "')
        block = b"x" * 65536
    for _ in range(num_bytes // 65536):
        connection.sendall(block)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    raise OSError


def send_and_close(content: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.sendall(content)
        raise OSError

    return behave


NOT_A_REPLY = (json.dumps({"error": "request invalid, data error", "response": ""}), 12)
LOST = (json.dumps({"error": "Connection error...", "response": ""}), 12)
LATE = (json.dumps({"error": "Timeout error...", "response": ""}), 5)


def status(number: int) -> tuple[str, int]:
    return json.dumps({"error": f"request invalid, data error. status_code={number}", "response": ""}), 12


FAULTS: dict[str, tuple[Callable[[socket.socket], None], tuple[str, int]]] = {
    "error 500": (lambda c: c.sendall(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n"), status(500)),
    "garbage": (send_and_close(b"\x00\xff\x16\x03 no HTTP at all"), LOST),
    "html": (lambda c: c.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"), NOT_A_REPLY),
    "redirect": (
        lambda c: c.sendall(b"HTTP/1.1 307 There\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"),
        status(307),
    ),
    "dripping": (drip, LATE),
    "silent": (lambda _: time.sleep(60), LATE),
    "flood": (flood, NOT_A_REPLY),
    "chunked flood": (lambda c: flood(c, chunked=True), NOT_A_REPLY),
    "reset": (reset, LOST),
    "half closed": (lambda c: c.shutdown(socket.SHUT_WR), LOST),
    "cut off": (send_and_close(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"), LOST),
    "endless header": (lambda c: [c.sendall(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000)], LOST),
    "not gzip": (
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"),
        NOT_A_REPLY,
    ),
}


def test_only_the_calls_concerned_suffer_and_each_has_its_code() -> None:
    good_ones_are_done = threading.Event()

    def behave(connection: socket.socket, api_name: str) -> None:
        if api_name == "held":
            good_ones_are_done.wait(60)
        if api_name in ("good", "held"):
            connection.sendall(GOOD_REPLY)
        else:
            FAULTS[api_name][0](connection)

    with (
        raw_server(behave) as url,
        ApiClient(url, timeout_s=60, retry=QUICK) as client,
        ApiClient(url, timeout_s=0.5, retry=QUICK) as hasty_client,
        ThreadPoolExecutor(32) as pool,
    ):
        faulty = {
            name: pool.submit(call, hasty_client if end == LATE else client, name) for name, (_, end) in FAULTS.items()
        }
        held = pool.submit(call, client, "held")
        good = [pool.submit(call, client) for _ in range(100)]
        assert {each.result() for each in good} == {(json.dumps(GOOD), 0)}
        good_ones_are_done.set()
        assert held.result() == (json.dumps(GOOD), 0)
        assert {name: each.result() for name, each in faulty.items()} == {
            name: end for name, (_, end) in FAULTS.items()
        }
        stats, hasty = client.stats(), hasty_client.stats()
    assert (stats.calls + hasty.calls, stats.errors + hasty.errors) == (101 + len(FAULTS), len(FAULTS))
    assert hasty.calls_by_code == {5: 2}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, len(GOOD_REPLY)),
    position=st.integers(0, len(GOOD_REPLY)),
    inserted=st.binary(max_size=12)
    | st.sampled_from([b"\r\n", b"\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"0" * 99]),
)
def test_whatever_bytes_come_back_the_call_has_an_observation_and_a_code(mangler, cut, position, inserted) -> None:
    client, reply = mangler
    reply[:] = [GOOD_REPLY[: min(cut, position)] + inserted + GOOD_REPLY[position:]]
    observation, code = call(client)
    assert set(json.loads(observation)) >= {"error"}
    assert code in (0, 5, 12)


@pytest.fixture(scope="module")
def mangler():
    """A client, and the reply that its server sends next."""
    reply = [b""]
    with (
        raw_server(lambda connection, _: send_and_close(reply[0])(connection)) as url,
        ApiClient(url, timeout_s=5, retry=CallRetryPolicy(failures=0, unreachable_s=0)) as client,
    ):
        yield client, reply


@pytest.mark.parametrize("kind", ["plain", "chunked", "compressed"])
def test_fifty_megabytes_cost_a_bounded_amount_of_memory(kind) -> None:
    bomb = gzip.compress(b'{"error": "", "response": "' + b"x" * 50_000_000 + b'"}')

    def behave(connection: socket.socket, _: str) -> None:
        if kind == "compressed":
            head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
            connection.sendall(head + bomb)
        else:
            flood(connection, chunked=kind == "chunked")

    with raw_server(behave) as url, ApiClient(url, retry=QUICK, max_response_bytes=2**20) as client:
        tracemalloc.start()
        try:
            with ThreadPoolExecutor(4) as pool:
                assert set(pool.map(lambda _: call(client), range(8))) == {NOT_A_REPLY}
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 4 * 8 * 2**20


@pytest.mark.parametrize("kind", ["plain", "compressed"])
@pytest.mark.parametrize("ask", [ApiClient.health, ApiClient.simulator])
def test_what_a_server_says_of_itself_is_not_read_without_end(ask, kind) -> None:
    told = json.dumps({"cache_dir": "", "files": 0, "prompt_sha256": "", "more": "x" * 50_000_000}).encode()
    body, header = (gzip.compress(told, 1), "gzip") if kind == "compressed" else (told, "identity")
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {header}\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(head)
            for start in range(0, len(body), 65536):
                connection.sendall(body[start : start + 65536])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/virtual"
        with ApiClient(url, max_response_bytes=2**20) as client:
            tracemalloc.start()
            try:
                assert ask(client) is None
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak_bytes < 4 * 2**20


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_reply_is_read_although_none_was_asked_for(encoding, compress) -> None:
    body = compress(json.dumps(GOOD).encode())
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with (
        raw_server(lambda connection, _: connection.sendall(head + body)) as url,
        ApiClient(url, retry=QUICK) as client,
    ):
        assert call(client) == (json.dumps(GOOD), 0)


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again() -> None:
    """Without `connection: close`, as servers do that are restarted or tidy up."""

    def behave(connection: socket.socket, _: str) -> None:
        connection.sendall(GOOD_REPLY)
        raise OSError

    with raw_server(behave) as url, ApiClient(url, retry=QUICK) as client:
        for _ in range(20):
            assert call(client) == (json.dumps(GOOD), 0)
            time.sleep(0.01)
        assert client.stats().retries == 0


def test_cookies_are_not_kept() -> None:
    heads = []

    def behave(connection: socket.socket, _: str) -> None:
        cookie = b"set-cookie: session%d=1; path=/\r\n" % len(heads)
        connection.sendall(GOOD_REPLY.replace(b"\r\n\r\n", b"\r\n" + cookie + b"\r\n", 1))
        heads.append(connection.recv(65536, socket.MSG_PEEK) if len(heads) == 1 else b"")

    with raw_server(behave) as url, ApiClient(url, retry=QUICK) as client:
        for _ in range(3):
            assert call(client)[1] == 0
        time.sleep(0.05)
    assert b"POST" in heads[1]
    assert b"cookie" not in heads[1].lower()


SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"error": "", "response": "fine"}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer.request_queue_size = 64
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("up", flush=True)
server.serve_forever()
"""


@contextmanager
def server_process(port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_server_that_is_killed_and_started_again_costs_calls_nothing_but_time(caplog) -> None:
    port = free_port()
    stop = threading.Event()

    def converse(client: ApiClient) -> list[tuple[str, int]]:
        replies = []
        while not stop.is_set():
            replies.append(call(client))
        return replies

    with ApiClient(f"http://127.0.0.1:{port}/virtual") as client, ThreadPoolExecutor(8) as pool:
        with server_process(port) as process:
            conversations = [pool.submit(converse, client) for _ in range(8)]
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(0.5)
        with server_process(port):
            stop.set()
            replies = [reply for each in conversations for reply in each.result()]
            assert client.stats().retries >= 8
    assert set(replies) == {(json.dumps(GOOD), 0)}
    told = [record.getMessage() for record in caplog.records]
    # Which call notices it first decides how: in the middle of an answer, or before its connection.
    assert len([line for line in told if re.search(r"is gone \([^)]+\): calls wait up to 30 s", line)]) == 1
    assert len([line for line in told if "is back after" in line]) == 1


@pytest.mark.parametrize("fault", ["flood", "not gzip"])
def test_a_server_is_back_also_with_a_reply_that_cannot_be_read(fault, caplog) -> None:
    port = free_port()
    with ApiClient(f"http://127.0.0.1:{port}/virtual", retry=QUICK) as client:
        with pytest.raises(ApiError):
            call(client)
        with raw_server(lambda connection, _: FAULTS[fault][0](connection), port):
            assert call(client) == NOT_A_REPLY
    assert [record.getMessage() for record in caplog.records if "is back after" in record.getMessage()] != []


def test_a_server_that_stays_away_is_waited_for_as_long_as_was_said_and_is_no_observation() -> None:
    policy = CallRetryPolicy(failures=0, unreachable_s=0.5, first_wait_s=0.01)
    with ApiClient(f"http://127.0.0.1:{free_port()}/virtual", retry=policy) as client:
        started = time.monotonic()
        with pytest.raises(ApiError, match=r"could not be reached for . s: start it again, or set SERVICE_URL"):
            call(client)
        assert time.monotonic() - started >= 0.5
        assert client.stats().retries >= 3


@pytest.mark.parametrize("limit", ["the client's", "this call's"])
def test_a_call_waits_no_longer_than_its_own_limit_for_a_server_that_is_away(limit) -> None:
    of_client, of_call = (3.0, None) if limit == "the client's" else (None, 3.0)
    url, policy = f"http://127.0.0.1:{free_port()}/virtual", CallRetryPolicy(unreachable_s=3600)
    with ApiClient(url, timeout_s=of_client, retry=policy) as client, pytest.raises(ApiError, match="not be reached"):
        client.call(**CALL, timeout_s=of_call)


def test_a_proxy_or_tunnel_to_nobody_is_a_server_that_is_away() -> None:
    """It lets one connect, and then hangs up on everybody, whatever is asked."""

    def hang_up(listener: socket.socket) -> None:
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/virtual"
        with ApiClient(url, retry=QUICK) as client, pytest.raises(ApiError, match="not be reached"):
            call(client)
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_takes_no_connection_in_time_is_away() -> None:
    """As behind a firewall that drops everything: here the queue of connections is full, and nobody accepts them."""
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(3):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/virtual"
        with (
            ApiClient(url, connect_timeout_s=0.5, retry=QUICK) as client,
            pytest.raises(ApiError, match="not be reached"),
        ):
            call(client)
