"""Offers the server's HTTP interface: POST /virtual, GET /health and GET /simulator, nothing else."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.virtual_api.body_limit import BodyLimit
from evaluation.toolbench.virtual_api.cache import Found, ResponseCache
from evaluation.toolbench.virtual_api.cache_names import RecordName
from evaluation.toolbench.virtual_api.forwarder import Forwarder
from evaluation.toolbench.virtual_api.keys import parse_tool_input
from evaluation.toolbench.virtual_api.own_answers import CHAT_WITH_USER, INPUT_NOT_JSON, NOT_RECORDED, is_good
from evaluation.toolbench.virtual_api.replies import SIMULATOR_FAILED
from evaluation.toolbench.virtual_api.simulator.simulator import NotSimulated, Simulator
from evaluation.toolbench.virtual_api.simulator.state import SimulatorState

_log = logging.getLogger(__name__)
request_log = logging.getLogger(f"{__name__}.requests")  # one JSON line per request, for --log_file
request_log.propagate = False

Outcome = Literal[
    "chat", "bad_input", "exact", "fuzzy", "simulated", "not_simulated", "miss", "forwarded", "forwarded_not_stored"
]
# What the client is told of the cache, for outcomes that have to do with it: a replayed rate limit would be replayed
# again, and a run counts what its cache lacks.
_HEADERS: dict[Outcome, dict[str, str]] = {
    "exact": {"x-cache": "HIT"},
    "fuzzy": {"x-cache": "HIT", "x-cache-match": "fuzzy"},
    "simulated": {"x-cache": "SIMULATED"},
    "not_simulated": {"x-cache": "MISS"},
    "miss": {"x-cache": "MISS"},
}
_LONGEST_HEADER = 500  # characters
_LOGGED_CHARACTERS = 2000  # of the arguments; an answer is found in the cache


class VirtualRequest(BaseModel):
    """Holds the six fields of the contract, all required; others are ignored."""

    category: str
    tool_name: str
    api_name: str
    tool_input: str | dict[str, Any]
    strip: str  # an instruction to the real API, which compresses its answer; a replay has only one
    toolbench_key: str


class Answered(NamedTuple):
    """Holds an answer's body and where it comes from; `why` there is none from the simulator, where that was asked."""

    body: Any
    outcome: Outcome
    why: str = ""

    @property
    def headers(self) -> dict[str, str]:
        why = " ".join(self.why.encode("ascii", "replace").decode().split())[:_LONGEST_HEADER]
        return _HEADERS.get(self.outcome, {}) | ({SIMULATOR_FAILED: why} if why else {})


class VirtualApi:
    """Decides what a request is answered, in the contract's order, and counts how."""

    def __init__(
        self, cache: ResponseCache, forwarder: Forwarder | None = None, simulator: Simulator | None = None
    ) -> None:
        self.cache = cache
        self.forwarder = forwarder
        self.simulator = simulator
        self.outcomes: Counter[Outcome] = Counter()  # changed on the event loop's thread alone

    async def answer(self, request: VirtualRequest) -> Answered:
        name = RecordName.of_request(request.category, request.tool_name, request.api_name)
        answered = await self._decide(name, request)
        self.outcomes[answered.outcome] += 1
        return answered

    async def _decide(self, name: RecordName, request: VirtualRequest) -> Answered:
        if name.api == "chat_with_user":
            return Answered(CHAT_WITH_USER, "chat")
        try:
            arguments = parse_tool_input(request.tool_input)
            # Disk reads belong in a thread, so that no request waits for another one's file.
            found: Found | None = await run_in_threadpool(self.cache.find, name, arguments)
        except (ValueError, RecursionError):  # text that is not JSON, or nested beyond what Python can print
            return Answered(INPUT_NOT_JSON, "bad_input")
        if found:
            return Answered(found.answer, found.match)
        if self.simulator is not None:
            return await self._simulate(self.simulator, name, arguments)
        if self.forwarder is None:
            return Answered(NOT_RECORDED, "miss")
        answer = await self.forwarder.ask(name, request.tool_name, arguments, request.toolbench_key)
        if not is_good(answer):
            return Answered(answer, "forwarded_not_stored")
        try:
            await run_in_threadpool(self.cache.store, name, arguments, answer)
        except OutputError as error:
            _log.warning("%s", error)
            return Answered(answer, "forwarded_not_stored")
        return Answered(answer, "forwarded")

    async def _simulate(self, simulator: Simulator, name: RecordName, arguments: Any) -> Answered:
        """Answer a call that the cache lacks; without a reply of the simulator it stays a miss."""
        try:
            return Answered(await simulator.answer(name, arguments), "simulated")
        except NotSimulated as error:
            _log.warning("The simulator has no reply to a call of %s: %s", f"{name.tool}/{name.api}", error)
            return Answered(NOT_RECORDED, "not_simulated", why=str(error))

    def health(self) -> dict[str, Any]:
        """Counts since the start; `files` are the APIs with recorded answers on disk."""
        files_in_memory, answers_in_memory = self.cache.in_memory()
        forwarded = self.outcomes["forwarded"] + self.outcomes["forwarded_not_stored"]
        return {
            "status": "ok",
            "cache_dir": str(self.cache.root),
            "forwards": self.forwarder is not None,
            "simulates": self.simulator is not None,
            "files": self.cache.count_files(),
            "files_in_memory": files_in_memory,
            "entries_in_memory": answers_in_memory,
            "requests": self.outcomes.total(),
            "hits": self.outcomes["exact"] + self.outcomes["fuzzy"],
            "fuzzy_hits": self.outcomes["fuzzy"],
            "simulated": self.outcomes["simulated"],
            "misses": self.outcomes["miss"] + self.outcomes["not_simulated"] + forwarded,
            "forwarded": forwarded,
            "stored": self.outcomes["forwarded"],
        }


def make_app(api: VirtualApi, *, max_body_bytes: int) -> FastAPI:
    """Return the application around `api`; closes its forwarder and its simulator when the server stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if api.forwarder:
            await api.forwarder.close()
        if api.simulator:
            await api.simulator.close()

    # Only the contract's paths exist: no documentation pages, no redirect for a trailing slash.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)

    @app.post("/virtual")
    async def virtual(request: VirtualRequest) -> Response:
        started = time.perf_counter()
        answered = await api.answer(request)
        _log_request(request, answered.outcome, milliseconds=(time.perf_counter() - started) * 1000)
        return _json_response(answered.body, headers=answered.headers)

    @app.get("/health")
    async def health() -> Response:
        return _json_response(await run_in_threadpool(api.health))

    @app.get("/simulator")
    async def simulator() -> Response:
        state = await api.simulator.state() if api.simulator else SimulatorState()
        return _json_response(state.to_json())

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> Response:
        # FastAPI's own handler quotes the input, and with it the caller's key.
        told = ("type", "loc", "msg")
        return _json_response({"detail": [{key: item[key] for key in told} for item in error.errors()]}, status=422)

    return app


def _json_response(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # ASCII with escapes, and NaN as Python writes it: whatever a cache file may hold can be sent.
    return Response(json.dumps(content), status, headers, media_type="application/json")


def _log_request(request: VirtualRequest, outcome: Outcome, *, milliseconds: float) -> None:
    if not request_log.isEnabledFor(logging.INFO):
        return
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "outcome": outcome,
        "category": request.category,
        "tool_name": request.tool_name,
        "api_name": request.api_name,
        "tool_input": str(request.tool_input)[:_LOGGED_CHARACTERS],
        "milliseconds": round(milliseconds, 1),
    }
    request_log.info(json.dumps(record))
