"""Holds the memory that a step on its way has for itself: what the host wrote for it, and what it hands on.

A device copies from pinned memory, and to it, some time after the host has asked for it. So a step has buffers
that nobody else touches until its tokens have been taken, by when the devices have done all of it. Then the next
step gets them: there are as many as there are steps on their way.
"""

from __future__ import annotations

import torch

from evaluation.toolbench.inference.engine.paged.execution.links import Link


class Staging:
    """Belongs to one step at a time. `num_tokens` is how many drawn tokens it takes back to the host at most."""

    def __init__(self, num_tokens: int, *, is_pinned: bool) -> None:
        self.tokens = torch.empty(num_tokens, dtype=torch.int64, pin_memory=is_pinned)
        self.scores: torch.Tensor | None = None  # (rows, 2, k) int64 of the last step that had any
        self._is_pinned = is_pinned
        self._inputs = torch.empty(0, dtype=torch.int32)
        self._handed: dict[Link, torch.Tensor] = {}
        self._done: torch.cuda.Event | None = None

    def inputs(self, size: int) -> torch.Tensor:
        """Return (size,) int32 on the host; only what has been written since means anything."""
        if len(self._inputs) < size:
            self._inputs = torch.empty(size, dtype=torch.int32, pin_memory=self._is_pinned)
        return self._inputs[:size]

    def handed_over(self, link: Link, hidden: torch.Tensor) -> torch.Tensor:
        """Return `hidden` (T, hidden size) at the other end of `link`, for what is queued there from now on."""
        room = self._handed.get(link)
        if room is None or len(room) < len(hidden):
            room = self._handed[link] = link.room_for(hidden)
        room = room[: len(hidden)]
        link.copy(hidden, room).wait()
        return room

    def take_back(self, tokens: torch.Tensor, scores: torch.Tensor | None) -> None:
        """Queue the copies of `tokens` (n,) int64 and of `scores`, the last things that a step does."""
        self.tokens[: len(tokens)].copy_(tokens, non_blocking=True)
        if scores is not None:
            self.scores = torch.empty(scores.shape, dtype=scores.dtype, pin_memory=self._is_pinned)
            self.scores.copy_(scores, non_blocking=True)
        self.note_end(tokens.device)

    def note_end(self, device: torch.device) -> None:
        """Note that the step ends with what the current stream of `device`, its last one, has been given so far."""
        self._done = None
        if device.type == "cuda":
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Wait until the step that was queued last has been done."""
        if self._done is not None:
            self._done.synchronize()
