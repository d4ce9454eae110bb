"""One POST over HTTP, with a bound on what is read back."""

from __future__ import annotations

from dataclasses import dataclass

import httpx


class ResponseTooLarge(Exception):
    """The body went on past the bound; the connection has been closed."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    status: int
    headers: httpx.Headers
    body: bytes


def new_http_client(url: httpx.URL, *, connect_timeout_s: float, is_local: bool) -> httpx.AsyncClient:
    """A keep-alive client for one server and any number of requests at once.

    How long a request may take as a whole is the caller's business (httpx only bounds single reads, and
    a server that sends a byte now and then never exceeds those). A proxy from the environment is not
    used for a server on this machine, where it could only get in the way.
    """
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=connect_timeout_s),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=30.0),
        trust_env=not is_local,
        headers={"accept": "application/json", "accept-encoding": "identity"},
    )


async def post_json(
    client: httpx.AsyncClient, url: httpx.URL, content: bytes, *, toolbench_key: str, max_response_bytes: int
) -> HttpReply:
    """POST `content` and read the reply. Raises httpx.HTTPError and ResponseTooLarge."""
    headers = {"content-type": "application/json", "toolbench_key": toolbench_key}
    async with client.stream("POST", url, content=content, headers=headers) as response:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > max_response_bytes:
                raise ResponseTooLarge
        return HttpReply(response.status_code, response.headers, bytes(body))
