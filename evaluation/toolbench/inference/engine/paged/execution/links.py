"""Hands tensors from one device's queue of work to another's, without making either wait for more than it must.

A plain copy between GPUs waits for all that is queued on both. With several steps in flight that would
make the GPUs take turns: the first one would wait for the second to finish an earlier step. A link receives
on a stream of its own and orders only the work before and behind the one tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Arrival:
    """Tells when a tensor is where it was sent."""

    device: torch.device
    _event: torch.cuda.Event | None

    def wait(self) -> None:
        """Let what is queued on the device's current stream from here on come after the arrival."""
        if self._event is not None:
            torch.cuda.current_stream(self.device).wait_event(self._event)

    @classmethod
    def now(cls, device: torch.device) -> Arrival:
        """Return the arrival of all that the device's current stream has been given so far."""
        if device.type != "cuda":
            return cls(device, None)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        return cls(device, event)


class Link:
    """Sends from `source` to `target`, which may be the same device; between GPUs work is queued at once."""

    def __init__(self, source: torch.device, target: torch.device) -> None:
        self._target = target
        self._stream: torch.cuda.Stream | None = None
        if source.type == target.type == "cuda" and source != target:
            self._stream = torch.cuda.Stream(target)

    def room_for(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return an uninitialised tensor like `tensor` on the target, in memory that no work there is still using."""
        with on_stream(self._stream):
            return torch.empty_like(tensor, device=self._target)

    def copy(self, tensor: torch.Tensor, out: torch.Tensor) -> Arrival:
        """Copy `tensor`, as the source's current stream leaves it, to `out`, which nothing on the target still uses.

        The source's stream goes on when it has been read.
        """
        if self._stream is None:
            out.copy_(tensor)
            return Arrival.now(self._target)
        # A copy between GPUs runs on the source's current stream, after what is queued on the target's.
        with on_stream(self._stream):
            out.copy_(tensor, non_blocking=True)
            return Arrival.now(self._target)


@contextlib.contextmanager
def on_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Make `stream` its device's current one within the block; on the CPU there are none."""
    with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
        yield
