"""Asks the judge's servers in turn, and is patient with them. For one event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.errors import JudgeError
from evaluation.toolbench.tooleval.judge.endpoint import Endpoint
from evaluation.toolbench.tooleval.judge.replies import Said, read_chat_reply
from evaluation.toolbench.tooleval.judge.settings import JudgeSettings


class JudgeClient:
    """The servers of one judge. A server that cannot serve us (its key is refused, say) is left out with a warning."""

    def __init__(self, settings: JudgeSettings, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._warn = warn
        self._all = [Endpoint(server, settings) for server in settings.servers]
        self._endpoints = list(self._all)  # those in use
        self._turn = count()
        self._rng = random.Random()
        self._last_answer = 0.0

    @property
    def shown_urls(self) -> str:
        return ", ".join(dict.fromkeys(endpoint.server.shown_url for endpoint in self._all))

    async def open(self) -> list[str]:
        """The models that are served, empty where no server tells. JudgeError if there is no server to ask."""
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
        self._last_answer = time.monotonic()
        return models

    async def ask(self, request: Mapping[str, Any]) -> Said:
        """What the judge says to `request`.

        Failure for a request that no retry helps, JudgeError for a judge that cannot be asked any more.
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
                self._last_answer = time.monotonic()
                return said

    async def close(self) -> None:
        for endpoint in self._all:
            await endpoint.close()

    def _leave_out(self, endpoint: Endpoint, failure: Failure) -> None:
        """Go on with the other servers. JudgeError where there is none."""
        sentence = f"the judge at {endpoint.server.shown_url} {failure.words}"
        if endpoint in self._endpoints:
            if len(self._endpoints) == 1:
                raise JudgeError(_advice(sentence, failure), url=endpoint.server.shown_url) from failure
            self._endpoints.remove(endpoint)
            self._warn(f"{sentence}; the other {len(self._endpoints)} of the pool are asked")

    def _check_patience(self, endpoint: Endpoint, failure: Failure) -> None:
        silent_s = time.monotonic() - self._last_answer
        if silent_s > self._settings.patience_s:
            raise JudgeError(
                f"the judge at {endpoint.server.shown_url} {failure.words}, and has answered nothing for "
                f"{silent_s:.0f} s",
                url=endpoint.server.shown_url,
            ) from failure


def _advice(sentence: str, failure: Failure) -> str:
    if failure.kind == "unfit":
        return sentence
    return (
        f"{sentence}. Start one there (scripts/serve_vllm.sh serves a model), or name another with --judge_url or "
        "JUDGE_URL"
    )
