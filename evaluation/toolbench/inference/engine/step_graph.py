"""A step of one shape as a CUDA graph: captured once, replayed with new inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from evaluation.toolbench.inference.engine.step_layout import StepLayout

Forward = Callable[[StepLayout, dict[torch.device, torch.Tensor]], torch.Tensor]


class StepGraph:
    """`forward(layout, buffers)` over a static input buffer; its result lies in the graph's own memory.

    Graphs that share `pool` share what memory their steps need, so they take turns: the result of one
    is to be used before another is replayed.
    """

    def __init__(self, layout: StepLayout, device: torch.device, pool: Any, forward: Forward) -> None:
        self.layout = layout
        self._input = torch.zeros(layout.size, dtype=torch.int32, device=device)
        arrays = layout.views(self._input)
        arrays.slots.fill_(-1)  # the runs below are all padding: they write nothing into the pages
        arrays.token_rows.fill_(-1)
        buffers = {device: self._input}
        self._graph = torch.cuda.CUDAGraph()
        # Once as usual: kernels are compiled and libraries set up at their first use, which cannot be captured.
        forward(layout, buffers)
        torch.cuda.synchronize(device)
        # thread_local: what other threads do with the GPU meanwhile is no error.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._output = forward(layout, buffers)

    def replay(self, inputs: torch.Tensor) -> torch.Tensor:
        """Queue the step for `inputs` (layout.size,) int32, pinned; the result is valid until the next replay."""
        self._input.copy_(inputs, non_blocking=True)
        self._graph.replay()
        return self._output
