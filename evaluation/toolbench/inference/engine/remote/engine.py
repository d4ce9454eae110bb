"""Is the server engine: an `Engine` whose model is elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.http_client.urls import would_leak_key
from evaluation.toolbench.inference.engine.checks import check_request, check_scoring
from evaluation.toolbench.inference.engine.remote.endpoint import Endpoint
from evaluation.toolbench.inference.engine.remote.handshake import Needs, shake_hands
from evaluation.toolbench.inference.engine.remote.pieces import PiecewiseGeneration
from evaluation.toolbench.inference.engine.remote.pool import Member, Pool
from evaluation.toolbench.inference.engine.remote.scores import ScoringByServer, check_can_score
from evaluation.toolbench.inference.engine.remote.settings import KEY_VARIABLE, ServerSettings
from evaluation.toolbench.inference.engine.request import (
    Engine,
    GenerationRequest,
    GenerationResult,
    ScoringRequest,
    ScoringResult,
)
from evaluation.toolbench.inference.errors import EngineError, EngineStoppedError, ServerError

logger = logging.getLogger(__name__)
T = TypeVar("T")

_TRIES_AT_START = 3
_MOST_LINES = 20  # in the log, about one server's comings and goings


class ServerEngine(Engine):
    """Serves requests through the servers of `settings`, which have shown that they meet `needs`.

    The constructor returns once at least one server has; those that cannot be reached then are tried again and
    again. ServerError when there is none, or one that is not what it should be. A server's failures are retried,
    elsewhere where it is down; with all servers down requests wait, up to `settings.wait_s`, and then end in
    ServerError. What a server refuses as wrong is an EngineError of that request alone.
    """

    def __init__(self, settings: ServerSettings, needs: Needs) -> None:
        self.vocab_size = needs.vocab_size
        self.max_length = needs.max_length  # every server takes as much, some may take more
        self._settings = settings
        self._needs = needs
        self._rng = random.Random()  # its own: waiting must not change what a seeded run draws
        self._lock = threading.Lock()  # orders submissions before or after close()
        self._is_closed = False
        self._pool = Pool(len(settings.urls))
        self._waiting: set[asyncio.Task[Any]] = set()  # tasks that wait for a server or before a retry
        self._all_down_since: float | None = None
        self._endpoints: list[Endpoint] = []
        self._revivals: set[asyncio.Task[None]] = set()
        self._came_up = asyncio.Event()
        self._num_lines: Counter[int] = Counter()  # by server
        for url in settings.urls:
            if settings.api_key and would_leak_key(url):
                logger.warning(f"{KEY_VARIABLE} is sent unencrypted to {url.host}; https:// would protect it")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server-engine", daemon=True)
        self._thread.start()
        try:
            self._run(self._connect())
        except BaseException:
            self.close()
            raise

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        try:
            max_new_tokens = check_request(request, vocab_size=self.vocab_size, max_length=self.max_length)
        except EngineError as error:
            failed: Future[GenerationResult] = Future()
            failed.set_exception(error)
            return failed
        return self._start(self._generate(request, max_new_tokens))

    def generate(self, request: GenerationRequest) -> GenerationResult:
        return self.submit(request).result()

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        try:
            check_scoring(request, vocab_size=self.vocab_size, max_length=self.max_length)
            check_can_score(request)
        except EngineError as error:
            failed: Future[ScoringResult] = Future()
            failed.set_exception(error)
            return failed
        return self._start(self._score(request))

    def end_conversation(self, conversation_id: str) -> None:
        with self._lock:
            if not self._is_closed:
                self._loop.call_soon_threadsafe(self._pool.end_conversation, conversation_id)

    def close(self) -> None:
        """Cancel what waits, finish what a server is at, close the connections. Later submits raise."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the engine's loop and wait for it here."""
        future = self._start(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._is_closed:
                work.close()
                raise EngineStoppedError("the engine is closed: no further generation can be submitted")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _connect(self) -> None:
        """Make the first handshakes: all servers at once, those that do not answer a few times."""
        for url in self._settings.urls:
            self._endpoints.append(Endpoint(url, self._settings))
        outcomes = await asyncio.gather(*map(self._try_hands, self._pool.members), return_exceptions=True)
        for error in filter(None, outcomes):
            raise error
        down = [member for member in self._pool.members if not member.is_up]
        if len(down) == len(self._pool.members):
            reasons = "; ".join(self._state_of(member) for member in down)
            raise ServerError(
                f"no generation server: {reasons}. Start one with scripts/serve_vllm.sh and wait until it says that it "
                "is ready, or correct --engine_url"
            )
        for member in down:
            self._tell(member, f"{member.reason}; going on without it until it answers")
            self._revive(member)

    async def _try_hands(self, member: Member) -> None:
        """Try handshakes until one succeeds or enough have failed. ServerError when the server is unfit."""
        endpoint = self._endpoints[member.number]
        for attempt in range(_TRIES_AT_START):
            if attempt:
                await asyncio.sleep(self._settings.retry.wait_s(attempt - 1, self._rng))
            try:
                endpoint.served = await shake_hands(endpoint, self._needs, self._settings)
            except Failure as failure:
                if failure.kind in ("unfit", "refused"):
                    raise ServerError(f"the generation server at {endpoint.shown_url} {failure.words}") from None
                member.reason = failure.words
            else:
                self._bring_up(member)
                return

    async def _generate(self, request: GenerationRequest, max_new_tokens: int) -> GenerationResult:
        generation = PiecewiseGeneration(request, max_new_tokens, vocab_size=self.vocab_size)
        while (piece := generation.next_piece()) is not None:
            generation.take(await self._ask(partial(Endpoint.complete, piece=piece), request.conversation_id))
        return generation.result()

    async def _score(self, request: ScoringRequest) -> ScoringResult:
        scoring, prompt_ids = ScoringByServer(request), request.prompt_ids
        home = request.parent_id or request.conversation_id
        top = partial(Endpoint.top_tokens, prompt_ids=prompt_ids, count=scoring.num_top)
        scoring.take(await self._ask(top, home))
        for token_id in scoring.missing():
            single = partial(Endpoint.log_probability, prompt_ids=prompt_ids, token_id=token_id)
            scoring.take({token_id: await self._ask(single, home)})
        return scoring.result()

    async def _ask(self, question: Callable[[Endpoint], Awaitable[T]], conversation_id: str | None) -> T:
        """Return the answer to `question`, from whichever server, after as many retries as it takes."""
        num_failures = num_busy = 0
        busy_since: float | None = None
        while True:
            member = await self._server_for(conversation_id)
            member.num_running += 1
            try:
                answer = await question(self._endpoints[member.number])
            except Failure as failure:
                caught = failure
            else:
                self._pool.succeeded(member)
                return answer
            finally:
                member.num_running -= 1
            self._note(member, caught)
            if caught.kind == "refused":
                raise self._error(member, caught)
            if caught.kind == "busy":
                now = self._loop.time()
                busy_since = now if busy_since is None else busy_since
                if now - busy_since > self._settings.wait_s:
                    raise self._error(member, caught, f" for {now - busy_since:.0f} s")
                num_busy += 1
                await self._pause(self._settings.retry.wait_s(num_busy - 1, self._rng, caught.retry_after_s))
            elif caught.kind in ("failed", "unfit"):
                num_failures += 1
                if num_failures > self._settings.retry.failures:
                    raise self._error(member, caught, f", the last of {num_failures} times")
                await self._pause(self._settings.retry.wait_s(num_failures - 1, self._rng))

    async def _server_for(self, conversation_id: str | None) -> Member:
        """Return an up server, waited for if need be. ServerError after `wait_s` without any."""
        while (member := self._pool.choose(conversation_id)) is None:
            assert self._all_down_since is not None  # set when the last one went down
            left = self._all_down_since + self._settings.wait_s - self._loop.time()
            if left <= 0 or self._pool.are_all_out:
                reasons = "; ".join(map(self._state_of, self._pool.members))
                waited = "" if self._pool.are_all_out else f" for {self._settings.wait_s:g} s (--engine_wait)"
                raise ServerError(
                    f"no generation server{waited}: {reasons}. What is answered is saved: start a server and run the "
                    "same command again"
                )
            with self._interruptible(), contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._came_up.wait(), left)
        return member

    async def _pause(self, seconds: float) -> None:
        with self._interruptible():
            await asyncio.sleep(seconds)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Give up what is awaited within when the engine closes."""
        task = asyncio.current_task()
        assert task is not None
        if self._is_closed:
            raise asyncio.CancelledError
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    def _note(self, member: Member, failure: Failure) -> None:
        """Count a failure; a server that goes down by it is left out, and tried again later."""
        if failure.kind == "refused":  # the request's fault
            return
        at_once, is_reached = failure.kind in ("lost", "unfit"), failure.kind != "lost"
        if not self._pool.failed(member, failure.words, at_once=at_once, is_reached=is_reached):
            return
        if member.is_out:
            member.reason += f", and has done so {member.falls} times although its handshake succeeds"
        else:
            self._revive(member)
        if self._pool.is_any_up:
            self._tell(member, f"{member.reason}; going on with the others")
            return
        self._came_up.clear()
        self._all_down_since = self._loop.time()
        if not self._pool.are_all_out:
            self._tell(member, f"{member.reason}; waiting up to {self._settings.wait_s:g} s for one")

    def _revive(self, member: Member) -> None:
        """Try handshakes in the background until the server is back."""

        async def revive() -> None:
            endpoint = self._endpoints[member.number]
            for attempt in itertools.count():
                await asyncio.sleep(self._settings.retry.wait_s(attempt, self._rng))
                if self._is_closed:  # a cancellation can be lost in asyncio.wait_for (Python before 3.12)
                    return
                try:
                    served = await shake_hands(endpoint, self._needs, self._settings)
                except Failure as failure:
                    if failure.kind in ("unfit", "refused") and failure.words != member.reason:
                        self._tell(member, failure.words)
                    member.reason = failure.words
                else:
                    endpoint.served = served
                    self._bring_up(member)
                    self._tell(member, "is back")
                    return

        task = self._loop.create_task(revive())
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)

    def _bring_up(self, member: Member) -> None:
        self._pool.came_up(member)
        self._all_down_since = None
        self._came_up.set()

    def _tell(self, member: Member, words: str) -> None:
        """Log what became of a server; of one that comes and goes without end, the first times."""
        self._num_lines[member.number] += 1
        if self._num_lines[member.number] <= _MOST_LINES:
            is_last = self._num_lines[member.number] == _MOST_LINES
            last = " (this is told no more)" if is_last else ""
            logger.warning(f"the generation server at {self._endpoints[member.number].shown_url} {words}{last}")

    def _state_of(self, member: Member) -> str:
        return f"{self._endpoints[member.number].shown_url} {member.reason}"

    def _error(self, member: Member, failure: Failure, how_often: str = "") -> EngineError:
        url = self._endpoints[member.number].shown_url
        return EngineError(f"the generation server at {url} {failure.words}{how_often}", url=url)

    async def _finish(self) -> None:
        for task in self._revivals | self._waiting:
            task.cancel()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints))
