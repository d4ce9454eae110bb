"""Asks one generation server: HTTP in, token ids or a typed failure out. All of it runs on one event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from evaluation.toolbench.http_client.exchange import new_http_client
from evaluation.toolbench.http_client.server_replies import Failure, explain, raise_for_status, read_object
from evaluation.toolbench.http_client.urls import without_secrets
from evaluation.toolbench.inference.engine.remote.pieces import Piece
from evaluation.toolbench.inference.engine.remote.scores import read_single, read_top, single_request, top_request
from evaluation.toolbench.inference.engine.remote.settings import KEY_VARIABLE, ConstraintStyle, ServerSettings
from evaluation.toolbench.inference.engine.remote.wire import completion_request, read_completion

_MAX_RESPONSE_BYTES = 64 * 2**20  # a reply repeats its prompt: some bytes a token
# uvicorn, under vLLM, closes a connection that was idle for 5 s; one that we keep longer may be closed just as it
# is used again.
_KEEP_ALIVE_S = 4.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Holds what a handshake found out. `style` writes sets of more than 1,024 ids; None: not shown to work."""

    name: str
    max_length: int  # tokens of a prompt and its generation
    version: str
    style: ConstraintStyle | None


class Endpoint:
    """Talks to the server at one URL. `served` is there once a handshake has succeeded."""

    def __init__(self, url: httpx.URL, settings: ServerSettings) -> None:
        self.shown_url = without_secrets(url)
        self.served: ServedModel | None = None
        self._url = url
        self._timeout_s = settings.timeout_s
        self._http = new_http_client(
            url, connect_timeout_s=settings.connect_timeout_s, keepalive_s=_KEEP_ALIVE_S, max_idle=None
        )
        if settings.api_key:
            self._http.headers["authorization"] = f"Bearer {settings.api_key}"

    async def complete(self, piece: Piece, served: ServedModel | None = None) -> list[int]:
        """Return the ids that follow the piece's prompt. Failure."""
        served = served or self.served
        assert served is not None  # nothing is asked of a server before its handshake
        content = completion_request(piece, served.name, served.style)
        status, headers, body = await self._exchange("POST", "/completions", content)
        return read_completion(status, headers, body, piece.max_tokens)

    async def top_tokens(self, prompt_ids: Sequence[int], count: int) -> dict[int, float]:
        """Return the log-probabilities of the `count` likeliest next tokens, by id. Failure."""
        return read_top(*await self._exchange("POST", "/completions", top_request(prompt_ids, count, self._name())))

    async def log_probability(self, prompt_ids: Sequence[int], token_id: int) -> float:
        """Return the log-probability of one next token. Failure."""
        content = single_request(prompt_ids, token_id, self._name())
        return read_single(*await self._exchange("POST", "/completions", content), token_id)

    async def get(self, path: str, *, below_v1: bool = True) -> dict[str, Any]:
        """Return the JSON object at `path`, which is beside "/v1" unless `below_v1`. Failure."""
        return _object_of(*await self._exchange("GET", path, below_v1=below_v1))

    async def post(self, path: str, body: Mapping[str, Any], *, below_v1: bool = True) -> dict[str, Any]:
        """Return the JSON object that answers `body`. Failure."""
        return _object_of(*await self._exchange("POST", path, json.dumps(body).encode(), below_v1=below_v1))

    def _name(self) -> str:
        assert self.served is not None  # nothing is asked of a server before its handshake
        return self.served.name

    async def close(self) -> None:
        await self._http.aclose()

    async def _exchange(
        self, method: str, path: str, content: bytes | None = None, *, below_v1: bool = True
    ) -> tuple[int, Mapping[str, str], bytes]:
        base = self._url.path if below_v1 else self._url.path.removesuffix("/v1")
        try:
            return await asyncio.wait_for(
                self._send(method, self._url.copy_with(path=base + path), content), self._timeout_s
            )
        except (asyncio.TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            raise Failure("failed", f"did not answer within {self._timeout_s:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Failure("lost", f"cannot be reached: {explain(error)}") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Failure("failed", f"lost the connection: {explain(error)}") from None

    async def _send(self, method: str, url: httpx.URL, content: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"content-type": "application/json"} if content is not None else None
        async with self._http.stream(method, url, content=content, headers=headers) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_RESPONSE_BYTES:
                    raise Failure("failed", f"sent more than {_MAX_RESPONSE_BYTES // 2**20} MiB")
            return response.status_code, response.headers, bytes(body)


def _object_of(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    raise_for_status(status, headers, body, key_variable=KEY_VARIABLE)
    return read_object(headers, body)
