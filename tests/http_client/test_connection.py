"""One connection: what servers send, whole or broken, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import httpx
import pytest

from evaluation.toolbench.http_client.connection import (
    ConnectionFailed,
    ConnectionLost,
    HttpConnection,
    ProxiedConnection,
    connection_to,
)
from evaluation.toolbench.http_client.exchange import ResponseTooLarge

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(*connections):
    """A server; each connection in turn gets these replies to its requests, and is then closed."""
    waiting = list(connections)
    requests = []

    async def serve(reader, writer):
        for reply in waiting.pop(0):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            requests.append(head + await reader.readexactly(length))
            writer.write(reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield httpx.URL(f"http://127.0.0.1:{port}"), requests
    finally:
        server.close()


async def ask(url, *, times=1, most=1000):
    connection = HttpConnection(url, connect_timeout_s=5, max_response_bytes=most)
    try:
        return [await connection.request("POST", "/a", {"x-key": "k"}, b"body") for _ in range(times)]
    finally:
        await connection.close()


async def answers(*connections, times=1, most=1000):
    async with serving(*connections) as (url, _):
        return [(reply.status, reply.body) for reply in await ask(url, times=times, most=most)]


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (
            CHUNKED + b"2\r\nok\r\n3;x=y\r\nay!\r\n0\r\na: b\r\n\r\n",
            200,
            b"okay!",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
    ],
    ids=["length", "empty", "no content", "chunks", "until closed", "continue"],
)
def test_replies_are_read_in_every_framing(reply, status, body):
    assert asyncio.run(answers([reply])) == [(status, body)]


def test_one_connection_serves_many_requests():
    async def check():
        async with serving([OK] * 3) as (url, requests):
            await ask(url, times=3)
            assert len(requests) == 3
            assert requests[0].startswith(b"POST /a HTTP/1.1\r\nhost: 127.0.0.1:")
            assert b"\r\nx-key: k\r\n" in requests[0]
            assert requests[0].endswith(b"\r\n\r\nbody")

    asyncio.run(check())


@pytest.mark.parametrize(
    "reply",
    [LAST, OK.replace(b"1.1", b"1.0")],
    ids=["said", "HTTP/1.0"],
)
def test_a_connection_that_is_to_be_closed_is_opened_anew(reply):
    assert asyncio.run(answers([reply], [OK], times=2)) == [(200, b"ok")] * 2


def test_a_kept_connection_that_was_closed_is_told_apart_from_one_that_broke():
    async def check():
        async with serving([OK]) as (url, _):
            connection = HttpConnection(url, connect_timeout_s=5, max_response_bytes=100)
            await connection.request("POST", "/a", {}, b"1")
            with pytest.raises(ConnectionLost) as caught:
                await connection.request("POST", "/a", {}, b"2")
            assert caught.value.is_unread
        async with serving([]) as (url, _):
            with pytest.raises(ConnectionLost) as caught:
                await ask(url)
            assert not caught.value.is_unread, "a new one was not closed before it was used"

    asyncio.run(check())


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        CHUNKED + b"9\r\nhalf",
        CHUNKED + b"zz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"x" * 200_000,
    ],
    ids=["cut body", "cut chunk", "no chunk", "no length", "cut head", "not HTTP", "no end"],
)
def test_what_is_no_whole_reply_is_a_lost_connection(reply):
    with pytest.raises(ConnectionLost):
        asyncio.run(answers([reply]))


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n" + b"x" * 11,
        CHUNKED + b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 11,
    ],
    ids=["length", "chunks", "until closed"],
)
def test_no_more_than_the_bound_is_read(reply):
    with pytest.raises(ResponseTooLarge):
        asyncio.run(answers([reply], most=10))


def test_a_refused_connection_names_its_cause():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(ConnectionFailed) as caught:
            asyncio.run(ask(httpx.URL(f"http://{host}:{port}")))
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_caller_that_stops_waiting_closes_the_connection():
    async def check():
        async with serving([b""], [OK]) as (url, _):
            connection = HttpConnection(url, connect_timeout_s=5, max_response_bytes=100)
            hanging = asyncio.create_task(connection.request("POST", "/a", {}, b"1"))
            while not connection.is_open:
                await asyncio.sleep(0)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            assert not connection.is_open
            assert (await connection.request("POST", "/a", {}, b"2")).body == b"ok"
            await connection.close()

    asyncio.run(check())


def test_a_proxy_of_the_environment_is_used_and_not_for_this_machine(monkeypatch):
    async def check():
        reply = OK.replace(b"ok", b"px")
        async with serving([reply]) as (proxy, requests):
            monkeypatch.setenv("http_proxy", str(proxy))
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            here = connection_to(proxy, connect_timeout_s=5, max_response_bytes=100)
            assert isinstance(here, HttpConnection)
            there = connection_to(httpx.URL("http://judge.example/v1"), connect_timeout_s=5, max_response_bytes=100)
            assert isinstance(there, ProxiedConnection)
            found = await there.request("POST", "/v1/chat", {}, b"body")
            await there.close()
            assert found.body == b"px"
            assert requests[0].startswith(b"POST http://judge.example/v1/chat HTTP/1.1\r\n")

    asyncio.run(check())
