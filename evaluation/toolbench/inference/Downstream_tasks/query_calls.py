"""Calls APIs for one query: calls are counted, and kept within the query's time."""

from __future__ import annotations

from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.api_caller import ApiCaller
from evaluation.toolbench.inference.errors import ApiError
from evaluation.toolbench.inference.records.event_log import QueryRecorder
from evaluation.toolbench.inference.records.finish import FINAL_ANSWER, FINISH_NAME, GAVE_UP
from evaluation.toolbench.inference.replicas.limits import QueryClock
from evaluation.toolbench.inference.replicas.meter import Meter
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.replies import CacheMatch


class QueryCalls:
    """Calls APIs for the environment of one query, and counts the calls as a callback of its search.

    A call ends with the query's time at the latest, also while its API server is away.
    """

    def __init__(
        self, caller: ApiCaller, clock: QueryClock, meter: Meter, recorder: QueryRecorder | None = None
    ) -> None:
        """Count the calls in `meter`; `recorder` is told what the server's cache had for each."""
        self._caller = caller
        self._clock = clock
        self._meter = meter
        self._recorder = recorder
        self._name = ""
        self._cache: CacheMatch | None = None  # what the server's had for the call

    def call(self, **request: Any) -> tuple[str, int]:
        """Return (observation, status code). TimeIsUp at the end of the query's time, ApiError without a server."""
        try:
            reply = self._ask({**request, "timeout_s": max(0.0, self._clock.query_left_s())})
            self._clock.check_query()
        except BaseException as error:
            self._meter.call_ended(is_error=True)  # the search ends here, and tells of no end of the call
            if isinstance(error, ApiError):
                self._clock.check_query()
            raise
        return reply

    def _ask(self, request: dict[str, Any]) -> tuple[str, int]:
        if not isinstance(self._caller, ApiClient):
            return self._caller.call(**request)
        reply = self._caller.ask(**request)
        self._cache = reply.cache
        if self._recorder is not None:
            self._recorder.note_cache(reply.cache)
        return reply.observation, reply.code

    def on_tool_start(self, depth: int, tool_name: str, tool_input: str) -> None:
        self._name, self._cache = tool_name, None
        if self._name != FINISH_NAME:  # answered without an API
            self._meter.call_began()

    def on_tool_end(self, depth: int, output: str, status: int) -> None:
        if self._name != FINISH_NAME:
            self._meter.call_ended(is_error=status not in (0, FINAL_ANSWER, GAVE_UP), cache=self._cache)
