"""Keeps one HTTP/1.1 connection to a server and sends one request at a time over it.

httpx spends 1 to 5 ms of processor time on a request (most of it choosing among its connections when dozens
are busy), this a twentieth of that, which decides how many short requests one process can have in flight.
Only what an API needs is spoken: bodies with a length or in chunks, no redirects, no cookies, no compression.
Where the environment names a proxy for the server, httpx does the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from typing import Protocol

import httpx

from evaluation.toolbench.http_client.exchange import HttpReply, ResponseTooLarge, new_http_client
from evaluation.toolbench.http_client.proxies import proxy_for

_LONGEST_HEAD = 2**16  # bytes, also of a line in front of a chunk


class ConnectionFailed(Exception):
    """Says that no connection could be made; the system's error is the cause."""


class ConnectionLost(Exception):
    """Says that the connection ended. `is_unread`: it was an old one, closed before any of the reply came."""

    def __init__(self, words: str, *, is_unread: bool = False) -> None:
        super().__init__(words)
        self.is_unread = is_unread


class Connection(Protocol):
    """Sends one request at a time."""

    async def request(self, method: str, path: str, headers: dict[str, str], content: bytes = b"") -> HttpReply: ...

    async def close(self) -> None: ...


def connection_to(url: httpx.URL, *, connect_timeout_s: float, max_response_bytes: int) -> Connection:
    """Return a connection to the server of `url`, through a proxy where the environment names one for it."""
    kind = ProxiedConnection if proxy_for(url) else HttpConnection
    return kind(url, connect_timeout_s=connect_timeout_s, max_response_bytes=max_response_bytes)


class HttpConnection:
    """Keeps one connection to the server of `url`, opened by its first request. For one event loop."""

    def __init__(self, url: httpx.URL, *, connect_timeout_s: float, max_response_bytes: int) -> None:
        self._host = url.host
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._authority = url.netloc.decode("ascii")
        self._tls = _tls_context() if url.scheme == "https" else None
        self._connect_timeout_s = connect_timeout_s
        self._max_response_bytes = max_response_bytes
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        return self._streams is not None

    async def request(self, method: str, path: str, headers: dict[str, str], content: bytes = b"") -> HttpReply:
        """Return the reply to one request. ConnectionFailed, ConnectionLost or ResponseTooLarge; then it is closed.

        It is closed as well when the caller stops waiting.
        """
        is_old = self.is_open
        try:
            reader, writer = self._streams or await self._open()
            writer.write(self._head(method, path, headers, len(content)) + content)
            await writer.drain()
            reply = await self._read_reply(reader, is_old)
        except BaseException as error:
            self._drop()
            if isinstance(error, (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)):
                raise ConnectionLost(_words(error)) from error
            raise
        if reply.headers.get("connection", "").lower() == "close":
            self._drop()
        return reply

    async def close(self) -> None:
        """Close the connection; a later request opens a new one."""
        self._drop()

    def _drop(self) -> None:
        if self._streams is not None:
            with contextlib.suppress(RuntimeError):  # the event loop may be closed
                self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opening = asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_LONGEST_HEAD)
        try:
            self._streams = await asyncio.wait_for(opening, self._connect_timeout_s)
        except asyncio.TimeoutError as error:
            raise ConnectionFailed(f"no connection within {self._connect_timeout_s:g} s") from error
        except OSError as error:  # of several addresses it has one error's number in its text alone
            if f"[Errno {errno.ECONNREFUSED}]" in str(error):
                raise ConnectionFailed(str(error)) from ConnectionRefusedError(str(error))
            raise ConnectionFailed(str(error)) from error
        return self._streams

    def _head(self, method: str, path: str, headers: dict[str, str], length: int) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._authority}", f"content-length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    async def _read_reply(self, reader: asyncio.StreamReader, is_old: bool) -> HttpReply:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError) as error:
            unread = not getattr(error, "partial", b"")
            raise ConnectionLost("it closed the connection without an answer", is_unread=is_old and unread) from error
        status, headers = _parse_head(head)
        while status == 100:  # "go on", which was not asked for
            status, headers = _parse_head(await reader.readuntil(b"\r\n\r\n"))
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return HttpReply(status, headers, await self._read_chunks(reader))
        length = headers.get("content-length")
        if length is None and status not in (204, 304):
            body = await reader.read(self._max_response_bytes + 1)
            while more := await reader.read(self._max_response_bytes + 1 - len(body)):
                body += more
            self._check_length(len(body))
            headers["connection"] = "close"
            return HttpReply(status, headers, body)
        if length is not None and not length.isdecimal():
            raise ConnectionLost("it does not speak HTTP as expected")
        self._check_length(int(length or 0))
        return HttpReply(status, headers, await reader.readexactly(int(length or 0)))

    async def _read_chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while True:
            line = await reader.readuntil(b"\r\n")
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise ConnectionLost("it does not speak HTTP as expected") from None
            self._check_length(len(body) + size)
            if size == 0:
                while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
                    pass
                return bytes(body)
            body += (await reader.readexactly(size + 2))[:-2]

    def _check_length(self, num_bytes: int) -> None:
        if num_bytes > self._max_response_bytes:
            raise ResponseTooLarge


class ProxiedConnection:
    """Does the same through the proxy that the environment names. ConfigError for one that httpx cannot use."""

    def __init__(self, url: httpx.URL, *, connect_timeout_s: float, max_response_bytes: int) -> None:
        self._url = url
        self._max_response_bytes = max_response_bytes
        self._http = new_http_client(url, connect_timeout_s=connect_timeout_s)

    async def request(self, method: str, path: str, headers: dict[str, str], content: bytes = b"") -> HttpReply:
        try:
            async with self._http.stream(
                method, self._url.join(path), headers=headers, content=content or None
            ) as response:
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > self._max_response_bytes:
                        raise ResponseTooLarge
                return HttpReply(response.status_code, response.headers, bytes(body))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise ConnectionFailed(str(error)) from error
        except httpx.HTTPError as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        await self._http.aclose()


def _parse_head(head: bytes) -> tuple[int, httpx.Headers]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ConnectionLost("it does not speak HTTP as expected")
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = httpx.Headers([(name.strip(), value.strip()) for name, _, value in pairs])
    if version == "HTTP/1.0" and "connection" not in headers:
        headers["connection"] = "close"
    return int(rest[:3]), headers


def _words(error: BaseException) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return "it closed the connection in the middle of an answer"
    if isinstance(error, asyncio.LimitOverrunError):
        return "it does not speak HTTP as expected"
    return str(error) or type(error).__name__


_contexts: list[ssl.SSLContext] = []


def _tls_context() -> ssl.SSLContext:
    """Return the one for all connections: loading the authorities takes tens of milliseconds."""
    if not _contexts:
        _contexts.append(httpx.create_ssl_context())
    return _contexts[0]
