"""Captures a step of one shape as a CUDA graph once, and replays it with new inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepBuffers

# Layout, its arrays on the device, and the hidden states of the stage before (None in the first) -> hidden states.
Forward = Callable[[StepBuffers, torch.Tensor, torch.Tensor | None], torch.Tensor]


class StepGraph:
    """Replays `forward` over static inputs; its result lies in the graph's own memory.

    `hidden` (num_tokens, hidden size) is where what the stage before hands over is put; None in the first
    stage. Graphs that share `pool` share what memory their steps need, so they take
    turns: the result of one is to be used before another is replayed. `stream`, of this device, is what they are
    captured on.
    """

    def __init__(
        self,
        layout: StepBuffers,
        device: torch.device,
        pool: Any,
        stream: torch.cuda.Stream,
        forward: Forward,
        hidden: torch.Tensor | None,
    ) -> None:
        self.layout = layout
        self._device = device
        self._input = torch.zeros(layout.size, dtype=torch.int32, device=device)
        self._hidden = hidden
        self.arrays = layout.views(self._input)
        self.arrays.kv_slots.fill_(-1)  # the runs below are all padding: they write nothing into the pages
        self._graph = torch.cuda.CUDAGraph()
        # Once as usual: kernels are compiled and libraries set up at their first use, which cannot be captured.
        forward(layout, self._input, self._hidden)
        torch.cuda.synchronize(device)
        # thread_local: what other threads do with the GPU meanwhile is not an error.
        with (
            torch.cuda.device(device),
            torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            self._output = forward(layout, self._input, self._hidden)

    def replay(self, inputs: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """Queue the step for `inputs` (layout.size,) int32, pinned, and `hidden`; valid until the next replay."""
        with torch.cuda.device(self._device):
            self._input.copy_(inputs, non_blocking=True)
            if self._hidden is not None and hidden is not None:
                self._hidden.copy_(hidden)
            self._graph.replay()
        return self._output


class GraphRecorder:
    """Captures the steps of one device, on one stream: libraries keep a workspace for each that they have seen."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None  # an opaque handle of PyTorch's

    def record(self, layout: StepBuffers, forward: Forward, hidden: torch.Tensor | None) -> StepGraph:
        """Return the graph of `forward` for steps of this layout; RuntimeError where that cannot be captured."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        return StepGraph(layout, self._device, self._pool, self._stream, forward, hidden)

    def release_memory(self) -> None:
        """Give up the graphs recorded so far; later ones start anew."""
        self._pool = None


def recorder_for(device: torch.device) -> GraphRecorder | None:
    """Return what captures the steps of `device`; None for one that has no graphs."""
    return GraphRecorder(device) if device.type == "cuda" else None
