"""Asks chat servers in turn, and is patient with them. For one event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from evaluation.toolbench.chat_client.endpoint import Endpoint
from evaluation.toolbench.chat_client.replies import Said, read_chat_reply
from evaluation.toolbench.chat_client.settings import ChatSettings
from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.errors import ToolGenError


@dataclass(frozen=True)
class Part:
    """Names a model behind servers in messages, such as "the judge", how to get one, and the error without any."""

    name: str
    remedy: str
    error: type[ToolGenError]


class ChatClient:
    """Asks the servers of one model. One that cannot serve us (its key is refused, say) is left out with a warning."""

    def __init__(self, settings: ChatSettings, part: Part, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._part = part
        self._warn = warn
        self._all = [Endpoint(server, settings) for server in settings.servers]
        self._endpoints = list(self._all)  # those in use
        self._turn = count()
        self._rng = random.Random()
        self._failing_since: float | None = None  # the first failure after the last answer

    @property
    def shown_urls(self) -> str:
        return ", ".join(dict.fromkeys(endpoint.server.shown_url for endpoint in self._all))

    async def open(self) -> list[str]:
        """Return the models that are served, empty where no server tells. The part's error without a server to ask."""
        models: list[str] = []
        results = await asyncio.gather(*(each.models() for each in self._all), return_exceptions=True)
        for endpoint, result in zip(self._all, results, strict=True):
            if isinstance(result, Failure):
                self._leave_out(endpoint, result)
            elif isinstance(result, BaseException):
                raise result
            else:
                models += [model for model in result if model not in models]
                if endpoint.server.would_leak_key:
                    self._warn(f"the key for {endpoint.server.shown_url} crosses the network unencrypted (http)")
        return models

    async def ask(self, request: Mapping[str, Any]) -> Said:
        """Return what the model says to `request`.

        Failure for a request that no retry helps, the part's error where no server can be asked any more.
        """
        num_failures = num_waits = 0
        while True:
            endpoint = self._endpoints[next(self._turn) % len(self._endpoints)]
            try:
                said = read_chat_reply(await endpoint.chat(request))
            except Failure as failure:
                if failure.kind == "refused":
                    raise
                if failure.kind == "unfit":
                    self._leave_out(endpoint, failure)
                    continue
                if failure.kind == "failed":
                    num_failures += 1
                    if num_failures > self._settings.retry.failures:
                        raise
                self._check_patience(endpoint, failure)
                await asyncio.sleep(self._settings.retry.wait_s(num_waits, self._rng, failure.retry_after_s))
                num_waits += 1
            else:
                self._failing_since = None
                return said

    async def close(self) -> None:
        for endpoint in self._all:
            await endpoint.close()

    def _leave_out(self, endpoint: Endpoint, failure: Failure) -> None:
        """Go on with the other servers. The part's error where there is none."""
        sentence = f"{self._part.name} at {endpoint.server.shown_url} {failure.words}"
        if endpoint in self._endpoints:
            if len(self._endpoints) == 1:
                raise self._error(self._advice(sentence, failure), endpoint) from failure
            self._endpoints.remove(endpoint)
            self._warn(f"{sentence}; the other {len(self._endpoints)} of the pool are asked")

    def _check_patience(self, endpoint: Endpoint, failure: Failure) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        silent_s = now - self._failing_since
        if silent_s > self._settings.patience_s:
            sentence = f"{self._part.name} at {endpoint.server.shown_url} {failure.words}"
            raise self._error(f"{sentence}, and has answered nothing for {silent_s:.0f} s", endpoint) from failure

    def _advice(self, sentence: str, failure: Failure) -> str:
        return sentence if failure.kind == "unfit" else f"{sentence}. {self._part.remedy}"

    def _error(self, message: str, endpoint: Endpoint) -> ToolGenError:
        return self._part.error(message, url=endpoint.server.shown_url)
