"""Asks one chat server: HTTP in, a JSON object or a failure out. For one event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from evaluation.toolbench.chat_client.settings import ChatSettings, Server
from evaluation.toolbench.http_client.connection import Connection, ConnectionFailed, ConnectionLost, connection_to
from evaluation.toolbench.http_client.exchange import HttpReply, ResponseTooLarge
from evaluation.toolbench.http_client.server_replies import Failure, explain, raise_for_status, read_object
from evaluation.toolbench.json_input import JsonError, parse_object

_MAX_RESPONSE_BYTES = 16 * 2**20
# uvicorn, under vLLM, closes a connection that was idle for 5 s.
_KEEP_ALIVE_S = 4.0


class Endpoint:
    """Keeps connections to one server, as many as there are requests at once."""

    def __init__(self, server: Server, settings: ChatSettings) -> None:
        self.server = server
        self._settings = settings
        self._path = server.url.raw_path.decode("ascii").rstrip("/")
        self._idle: list[tuple[float, Connection]] = []
        self._headers = {"accept": "application/json", "content-type": "application/json"}
        if server.api_key:
            self._headers["authorization"] = f"Bearer {server.api_key}"

    async def models(self) -> list[str]:
        """Return the names of the served models; none where the server does not tell. Failure if it is not there."""
        reply = await self._exchange("GET", "/models", b"", self._settings.check_s)
        if reply.status in (401, 403, 502, 503, 504):
            self._raise_for_status(reply)
        try:
            return [str(each["id"]) for each in parse_object(reply.body)["data"]] if reply.status == 200 else []
        except (JsonError, KeyError, TypeError):
            return []

    async def chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chat completion that answers `request`. Failure."""
        content = json.dumps(request, separators=(",", ":")).encode()
        reply = await self._exchange("POST", "/chat/completions", content, self._settings.timeout_s)
        self._raise_for_status(reply)
        return read_object(reply.headers, reply.body)

    async def close(self) -> None:
        for _, connection in self._idle:
            await connection.close()
        self._idle.clear()

    def _raise_for_status(self, reply: HttpReply) -> None:
        raise_for_status(reply.status, reply.headers, reply.body, key_variable=self.server.key_source)

    async def _exchange(self, method: str, path: str, content: bytes, timeout_s: float) -> HttpReply:
        connection = await self._connection()
        try:
            reply = await asyncio.wait_for(self._send(connection, method, path, content), timeout_s)
        except asyncio.TimeoutError:
            raise Failure("failed", f"did not answer within {timeout_s:g} s") from None
        except ConnectionFailed as error:
            raise Failure("lost", f"cannot be reached: {explain(error)}") from None
        except ConnectionLost as error:
            raise Failure("failed", f"lost the connection: {explain(error)}") from None
        except ResponseTooLarge:
            raise Failure("failed", f"sent more than {_MAX_RESPONSE_BYTES // 2**20} MiB") from None
        self._idle.append((time.monotonic(), connection))
        return reply

    async def _send(self, connection: Connection, method: str, path: str, content: bytes) -> HttpReply:
        try:
            return await connection.request(method, self._path + path, self._headers, content)
        except ConnectionLost as error:
            if not error.is_unread:
                raise
        return await connection.request(method, self._path + path, self._headers, content)  # over a new one

    async def _connection(self) -> Connection:
        """Return the connection used last, which is the likeliest to be still open; a new one where all are too old."""
        while self._idle:
            used, connection = self._idle.pop()
            if time.monotonic() - used < _KEEP_ALIVE_S:
                return connection
            await connection.close()
        return connection_to(
            self.server.url,
            connect_timeout_s=self._settings.connect_timeout_s,
            max_response_bytes=_MAX_RESPONSE_BYTES,
        )
