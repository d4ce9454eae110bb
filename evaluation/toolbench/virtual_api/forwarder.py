"""Asks another API server what we have no recorded answer for."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import httpx

from evaluation.toolbench.http_client.exchange import ResponseTooLarge, new_http_client, post_json
from evaluation.toolbench.http_client.urls import parse_http_url
from evaluation.toolbench.json_input import JsonError, parse_object
from evaluation.toolbench.virtual_api.cache_names import RecordName, bare_tool_name
from evaluation.toolbench.virtual_api.own_answers import (
    FORWARD_NOT_AN_ANSWER,
    FORWARD_TIMEOUT,
    FORWARD_UNREACHABLE,
    TOO_MANY_REQUESTS,
    Answer,
    api_error,
)

_CONNECT_TIMEOUT_S = 10.0
_MAX_RESPONSE_BYTES = 8 * 2**20


class Forwarder:
    """Asks the server at `url`. Each request is one attempt: retrying is up to whoever asked us."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.url = parse_http_url(url, "--forward_url")
        self._timeout_s = timeout_s
        self._client = new_http_client(self.url, connect_timeout_s=_CONNECT_TIMEOUT_S)

    async def ask(self, name: RecordName, tool_name: str, arguments: Any, toolbench_key: str) -> Answer:
        """Return the other server's answer, or ours that says why there is none. `tool_name` is the client's."""
        request = {
            "category": name.category,
            "tool_name": bare_tool_name(tool_name, name.category),
            "api_name": name.api,
            "tool_input": arguments,
            "strip": "",
            "toolbench_key": toolbench_key,
        }
        exchange = post_json(
            self._client,
            self.url,
            json.dumps(request).encode(),
            toolbench_key=toolbench_key,
            max_response_bytes=_MAX_RESPONSE_BYTES,
        )
        try:
            reply = await asyncio.wait_for(exchange, self._timeout_s)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            return FORWARD_TIMEOUT
        except (ResponseTooLarge, httpx.DecodingError):
            return FORWARD_NOT_AN_ANSWER
        except httpx.HTTPError:
            return FORWARD_UNREACHABLE
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            return TOO_MANY_REQUESTS
        if reply.status != HTTPStatus.OK:
            return api_error(f"The API server answered with HTTP status {reply.status}.")
        try:
            answer = parse_object(reply.body)
        except JsonError:
            return FORWARD_NOT_AN_ANSWER
        return answer if "error" in answer else FORWARD_NOT_AN_ANSWER

    async def close(self) -> None:
        await self._client.aclose()
