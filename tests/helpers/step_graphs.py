"""What a CUDA graph promises, on the CPU."""

from __future__ import annotations

import torch

from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepBuffers


class ReplayRecorder:
    """Records steps that are run again at every replay."""

    def record(self, layout, forward, hidden) -> ReplayedStep:
        return ReplayedStep(layout, forward, hidden)

    def release_memory(self) -> None:
        """There is none."""


class ReplayedStep:
    """One input buffer for good, and the same operations at every replay."""

    def __init__(self, layout: StepBuffers, forward, hidden) -> None:
        self.layout = layout
        self._input = torch.zeros(layout.size, dtype=torch.int32)
        self._hidden = hidden
        self.arrays = layout.views(self._input)
        self._step = lambda: forward(layout, self._input, self._hidden)

    def replay(self, inputs, hidden):
        assert len(inputs) == self.layout.size
        self._input.copy_(inputs)
        if hidden is not None:
            self._hidden.copy_(hidden)
        return self._step()
