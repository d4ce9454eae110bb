"""Replays what a model said before, else asks it once, and stores its reply with where it comes from."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi.concurrency import run_in_threadpool

from evaluation.toolbench.chat_client.client import ChatClient, Part
from evaluation.toolbench.chat_client.replies import Said
from evaluation.toolbench.chat_client.settings import ChatSettings, choose_model
from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.errors import ApiError, OutputError, ToolGenError
from evaluation.toolbench.virtual_api.cache import Found, ResponseCache
from evaluation.toolbench.virtual_api.cache_names import RecordName
from evaluation.toolbench.virtual_api.own_answers import Answer
from evaluation.toolbench.virtual_api.simulator.requests import canonical_arguments, chat_request, request_digest
from evaluation.toolbench.virtual_api.simulator.said_replies import read_answer
from evaluation.toolbench.virtual_api.simulator.state import SimulatorState
from evaluation.toolbench.virtual_api.simulator.system_prompt import SystemPrompt
from evaluation.toolbench.virtual_api.simulator.tool_documents import ToolDocuments

_log = logging.getLogger(__name__)
_PART = Part(
    "the simulator",
    "Start it there (any OpenAI-compatible server), or name another one with --simulator_url or SIMULATOR_URL",
    ApiError,
)
_NAME_ONE = "name one with --simulator_model or SIMULATOR_MODEL"


class NotSimulated(Exception):
    """Says why there is no reply."""


class Simulator:
    """Asks one model, at temperature 0. For one event loop.

    `replies` has what it said, in files by API like those of recorded replies, in them by the digest of the whole
    request: another model, prompt, seed or documentation has replies of its own. `settings.timeout_s` is the longest
    that a call waits for it, all tries included.
    """

    def __init__(
        self, settings: ChatSettings, documents: ToolDocuments, replies: ResponseCache, prompt: SystemPrompt, seed: int
    ) -> None:
        self._settings = settings
        self._documents = documents
        self._replies = replies
        self._prompt = prompt
        self._seed = seed
        self._model = settings.model or ""
        self._client = ChatClient(settings, _PART, lambda words: _log.warning("%s", words))
        self._asked: dict[str, asyncio.Task[Answer]] = {}  # by digest: equal calls at once wait for one request

    async def answer(self, name: RecordName, arguments: Any) -> Answer:
        """Return {"error", "response"}. NotSimulated where the model gives none."""
        request, origin = await self._request(name, arguments)
        digest = request_digest(request)
        kept = _answer_in(await run_in_threadpool(self._replies.find, name, digest))
        if kept is not None:
            return kept
        if digest not in self._asked:
            task = asyncio.create_task(self._ask_and_store(name, digest, request, origin))
            self._asked[digest] = task
            task.add_done_callback(lambda done: self._forget(digest, done))
        return await asyncio.shield(self._asked[digest])  # the others wait on if this caller hangs up

    async def state(self) -> SimulatorState:
        """Tell what this simulator is, and whether it can be asked at this moment."""
        problem = ""
        try:
            served = await self._client.open()
            model = await self._chosen_model(served)
            if served and model not in served:
                problem = f"the simulator at {self._client.shown_urls} has {', '.join(served[:5])} and not {model}: "
                problem += _NAME_ONE
        except ToolGenError as error:
            problem = str(error)
        return SimulatorState(
            model=self._model,
            url=self._client.shown_urls,
            seed=self._seed,
            prompt_sha256=self._prompt.sha256,
            is_own_prompt=self._prompt.is_own,
            folder=str(self._replies.root),
            problem=problem,
        )

    async def close(self) -> None:
        """Give up what is being asked, and close the connections."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _request(self, name: RecordName, arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build the request for a call, and what identifies it in the file of replies."""
        try:
            canonical = canonical_arguments(arguments)
        except RecursionError:
            canonical = None
        if canonical is None:
            raise NotSimulated("it takes arguments that are a JSON object, not too deep")
        document = await run_in_threadpool(self._documents.of, name)
        if document is None:
            raise NotSimulated(f"no documentation of such an API is in {self._documents.root}")
        try:
            model = await self._chosen_model()
        except ToolGenError as error:
            raise NotSimulated(str(error)) from error
        request = chat_request(self._prompt.text, document, name.api, canonical, model=model, seed=self._seed)
        return request, {"category": name.category, "tool": name.tool, "api": name.api, "arguments": canonical}

    async def _chosen_model(self, served: list[str] | None = None) -> str:
        if not self._model:
            served = await self._client.open() if served is None else served
            self._model = choose_model("", served, whose="the simulator's", remedy=_NAME_ONE)
            if not self._model:
                raise ApiError(f"the simulator at {self._client.shown_urls} does not tell its models: {_NAME_ONE}")
        return self._model

    def _forget(self, digest: str, task: asyncio.Task[Answer]) -> None:
        del self._asked[digest]
        if not task.cancelled():
            task.exception()  # seen, also where every caller has gone

    async def _ask_and_store(
        self, name: RecordName, digest: str, request: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> Answer:
        said = await self._ask(request)
        answer = read_answer(said)
        if answer is None:
            cut = f", cut at {request['max_tokens']} tokens" if said.is_cut else ""
            raise NotSimulated(f"it said no whole reply in the form that was asked for{cut}")
        record = {**origin, **_account(request, said), "answer": answer}
        try:
            # Another process may have asked at the same time; what was stored first is what is replayed.
            stored = await run_in_threadpool(self._replies.store, name, digest, record, keep_first=True)
        except OutputError as error:
            _log.warning("%s", error)
            return answer
        return _answer_in(stored) or answer

    async def _ask(self, request: Mapping[str, Any]) -> Said:
        try:
            return await asyncio.wait_for(self._client.ask(request), self._settings.timeout_s)
        except asyncio.TimeoutError:
            raise NotSimulated(f"it gave no reply within {self._settings.timeout_s:g} s") from None
        except Failure as failure:
            raise NotSimulated(f"it {failure.words}") from failure
        except ToolGenError as error:
            raise NotSimulated(str(error)) from error


def _account(request: Mapping[str, Any], said: Said) -> dict[str, Any]:
    """Say where a reply comes from, and what it cost."""
    return {
        "model": request["model"],
        "served_model": said.served_model,
        "prompt_sha256": hashlib.sha256(json.dumps(request["messages"]).encode()).hexdigest(),
        "system_prompt_sha256": hashlib.sha256(request["messages"][0]["content"].encode()).hexdigest(),
        "seed": request["seed"],
        "temperature": request["temperature"],
        "max_tokens": request["max_tokens"],
        "tokens": {"prompt": said.prompt_tokens, "completion": said.completion_tokens},
    }


def _answer_in(found: Found | Any | None) -> Answer | None:
    """Find the reply in a stored record; None for anything else."""
    record = found.answer if isinstance(found, Found) else found
    answer = record.get("answer") if isinstance(record, dict) else None
    return answer if isinstance(answer, dict) and {"error", "response"} <= answer.keys() else None
