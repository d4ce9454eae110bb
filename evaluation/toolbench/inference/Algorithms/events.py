"""Tells callbacks what a search does: the seam for a live display, a timeline or a web page.

A callback is any object with some of the methods below; the rest are not missed. All arguments go by
keyword, `depth` is the node's depth in steps (nodes // 3). `tools` are the query's own functions, each {"name",
"description", "parameters"}; `chain` has the messages that led to the answer, `outputs` Finish's arguments or "".

    on_tool_retrieval_start()              on_agent_action(depth, action, action_input) -> id
    on_tool_retrieval_end(tools)           on_tool_start(depth, tool_name, tool_input)
    on_request_start(user_input, method)   on_tool_end(depth, output, status)
    on_request_end(chain, outputs)         on_chain_end(depth, block_id)
    on_chain_start(depth, inputs) -> id    on_agent_end(depth, block_id)
    on_llm_start(depth, messages)
    on_llm_end(depth, response)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)


class Events:
    """Sends one event to every callback. What goes wrong in a callback is logged and harms nobody."""

    def __init__(self, callbacks: Sequence[Any] | None = None) -> None:
        self.callbacks = list(callbacks or ())

    def send(self, name: str, **arguments: Any) -> list[Any]:
        """Return what each callback returned, None for one that has no such method or failed in it."""
        return [self._send_to(callback, name, arguments) for callback in self.callbacks]

    def send_each(self, name: str, block_ids: Sequence[Any], **arguments: Any) -> None:
        """Do as `send`, and give each callback the id that it returned when the block that now ends began."""
        for callback, block_id in zip(self.callbacks, block_ids, strict=True):
            self._send_to(callback, name, {**arguments, "block_id": block_id})

    @staticmethod
    def _send_to(callback: Any, name: str, arguments: dict[str, Any]) -> Any:
        method = getattr(callback, name, None)
        if method is None:
            return None
        try:
            return method(**arguments)
        except Exception:  # a display's mistake must not cost an answer
            logger.exception("callback %s.%s failed", type(callback).__name__, name)
            return None
