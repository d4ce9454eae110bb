"""Handing tensors from one device's queue of work to another's, without making either wait for more than it must.

A plain copy between GPUs waits for all that is queued on both. With several steps in flight that would
make the GPUs take turns: the first one would wait for the second to finish an earlier step. A link copies
on streams of its own and orders only the work before and behind the one tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Transfer:
    """A tensor on its way."""

    _tensor: torch.Tensor
    _arrived: torch.cuda.Event | None

    def wait(self) -> torch.Tensor:
        """The tensor on the target; what is queued on its current stream from here on comes after the arrival."""
        if self._arrived is not None:
            stream = torch.cuda.current_stream(self._tensor.device)
            stream.wait_event(self._arrived)
            self._tensor.record_stream(stream)
        return self._tensor


class Link:
    """From `source` to `target`, which may be the same device; work is queued at once where both are GPUs."""

    def __init__(self, source: torch.device, target: torch.device) -> None:
        self._target = target
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        self._is_same = source == target
        if source.type == target.type == "cuda" and not self._is_same:
            self._streams = torch.cuda.Stream(source), torch.cuda.Stream(target)

    def start(self, tensor: torch.Tensor) -> Transfer:
        """Send `tensor`, as the source's current stream leaves it; that stream may overwrite it afterwards."""
        if self._streams is None:
            sent = tensor.clone() if self._is_same else tensor.to(self._target)
            return Transfer(sent, _record(sent.device))
        here, there = self._streams
        current = torch.cuda.current_stream(tensor.device)
        here.wait_stream(current)
        # A copy between devices is queued on the current stream of each.
        with torch.cuda.stream(here), torch.cuda.stream(there):
            sent = torch.empty_like(tensor, device=self._target)
            sent.copy_(tensor, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(there)
        tensor.record_stream(here)
        current.wait_stream(here)
        return Transfer(sent, arrived)


def _record(device: torch.device) -> torch.cuda.Event | None:
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
