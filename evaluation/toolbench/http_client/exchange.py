"""Makes one request over HTTP, with a bound on what is read back."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from evaluation.toolbench.http_client.proxies import proxy_for


class ResponseTooLarge(Exception):
    """Says that the body went on past the bound; the connection has been closed."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    status: int
    headers: httpx.Headers
    body: bytes


def new_http_client(
    url: httpx.URL, *, connect_timeout_s: float, keepalive_s: float = 30.0, max_idle: int | None = 256
) -> httpx.AsyncClient:
    """Return a keep-alive client for one server and any number of requests at once. ConfigError for an unusable proxy.

    How long a request may take as a whole is the caller's business (httpx only bounds single reads, and
    a server that sends a byte now and then never exceeds those). A proxy from the environment is not
    used for a server on this machine, where it could only get in the way. Redirects are not followed, and
    cookies not kept: they would grow without end and tie conversations together that share the client.
    """
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=connect_timeout_s),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=max_idle, keepalive_expiry=keepalive_s),
        # What httpx would take from the environment: of proxies only the one for this server, so that another that
        # cannot be used does no harm, and SSL_CERT_FILE.
        trust_env=False,
        proxy=proxy_for(url),
        verify=httpx.create_ssl_context() if url.scheme == "https" else True,
        cookies=no_cookies,
        headers={"accept": "application/json", "accept-encoding": "identity"},
    )


async def post_json(
    client: httpx.AsyncClient,
    url: httpx.URL,
    content: bytes,
    *,
    toolbench_key: str,
    max_response_bytes: int,
    connect_timeout_s: float | None = None,
) -> HttpReply:
    """POST `content` and read the reply. Raises httpx.HTTPError and ResponseTooLarge.

    A reply may be compressed although no server was asked for that: `max_response_bytes` are those of the
    reply itself, of which no more is unpacked. `connect_timeout_s` is the client's own unless told.
    """
    headers = {"content-type": "application/json", "toolbench_key": toolbench_key}
    timeout = client.timeout if connect_timeout_s is None else httpx.Timeout(None, connect=connect_timeout_s)
    async with client.stream("POST", url, content=content, headers=headers, timeout=timeout) as response:
        return await _read(response, max_response_bytes)


async def get(client: httpx.AsyncClient, url: httpx.URL, *, max_response_bytes: int) -> HttpReply:
    """GET `url` and read the reply, within the same bound and with the same errors as `post_json`."""
    async with client.stream("GET", url) as response:
        return await _read(response, max_response_bytes)


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds of a retry-after header. None for its other form, a date: the caller's back-off serves."""
    return float(header) if header and header.isascii() and header.isdigit() else None


async def _read(response: httpx.Response, max_response_bytes: int) -> HttpReply:
    unpack = _unpacker(response.headers.get("content-encoding", ""))
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += unpack(chunk, max_response_bytes + 1 - len(body))
        if len(body) > max_response_bytes:
            raise ResponseTooLarge
    return HttpReply(response.status_code, response.headers, bytes(body))


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    """Turns a chunk as it was sent into the bytes of the reply, of which it gives as many as asked for at most.

    httpx would unpack a chunk whole, to a thousand times its size.
    """
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return lambda chunk, most: chunk[:most]
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # with a header of gzip or of zlib

    def unpack(chunk: bytes, most: int) -> bytes:
        try:
            return stream.decompress(chunk, most)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error

    return unpack
