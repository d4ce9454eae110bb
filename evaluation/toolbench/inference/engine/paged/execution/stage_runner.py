"""Runs one stage of the model for one step: as a CUDA graph where there is one of the step's shape, else as it is."""

from __future__ import annotations

import logging
from collections.abc import Collection

import torch

from evaluation.toolbench.inference.engine.paged.execution.drawing import TokenDrawer
from evaluation.toolbench.inference.engine.paged.execution.host_step import HostStep
from evaluation.toolbench.inference.engine.paged.execution.paged_step import PagedStep
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepBuffers, StepShape
from evaluation.toolbench.inference.engine.paged.execution.step_graph import GraphRecorder, StepGraph
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache

logger = logging.getLogger(__name__)

_WORTH_IT = 2  # tokens of a step for each that is drawn from: then the last layer computes those alone


class StageRunner:
    """`tokens` (num_slots + 1,) int64 on the first stage's device holds the last token of each slot.

    `devices` are those of the stage's layers: one, but for a model that could not be split. `recorder` makes CUDA
    graphs, where they are wanted and possible. `drawer`, of the last stage where the output embedding lies there
    too, draws as a part of the step.
    """

    def __init__(
        self,
        stage: Stage,
        cache: KvCache,
        tokens: torch.Tensor,
        devices: Collection[torch.device],
        *,
        recorder: GraphRecorder | None,
        drawer: TokenDrawer | None,
    ) -> None:
        self.stage = stage
        self.recorder = recorder
        self.drawer = drawer
        self.graphs: dict[StepShape, StepGraph] = {}
        self._cache = cache
        self._tokens = tokens
        self._devices = devices
        self._is_on_host = set(devices) == {torch.device("cpu")}
        self._side_stream: torch.cuda.Stream | None = None
        if stage.device.type == "cuda":
            self._side_stream = torch.cuda.Stream(stage.device)

    def graph(self, shape: StepShape) -> StepGraph | None:
        """Return the graph for steps of `shape`, captured at its first use; None, for good, after a failed capture."""
        if self.recorder is None:
            return None
        if shape not in self.graphs:
            try:
                graph = self.recorder.record(StepBuffers(shape), self.forward, self._room_for(shape))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                logger.warning("CUDA graphs are off, steps will be slower: capturing %s failed: %s", shape, error)
                self.recorder = None
                return None
            self.graphs[shape] = graph
        return self.graphs[shape]

    def forward(
        self,
        layout: StepBuffers,
        inputs: torch.Tensor,
        hidden: torch.Tensor | None,
        *,
        is_fresh: bool = False,
        num_drawn: int | None = None,
    ) -> torch.Tensor:
        """Compute this stage of a step whose arrays are `inputs`, (layout.size,) int32 on any device.

        From the last stage come the rows alone that are drawn from, (num_drawn, hidden size), and by default as many
        as the step has rows: the output embedding of a large vocabulary is for those.
        """
        device = self.stage.device
        buffers = {place: inputs.to(place, non_blocking=True) for place in self._devices}
        arrays = layout.views(buffers[device])
        step: HostStep | PagedStep
        if self._is_on_host:
            step = HostStep(layout, buffers[device], self._cache)
        else:
            step = PagedStep(layout, buffers, self._cache, is_fresh=is_fresh, side_stream=self._side_stream)
        num_wanted = layout.shape.num_rows if num_drawn is None else num_drawn
        if self.stage.is_thin and 0 < _WORTH_IT * num_wanted <= layout.shape.num_tokens:
            step.want(arrays, num_wanted)
        if self.stage.is_first:
            hidden = torch.where(arrays.token_slots > 0, self._tokens[arrays.token_slots], arrays.ids.long())
        assert hidden is not None  # what the stage before has made
        hidden = self.stage.forward(hidden, arrays.positions.long(), step)
        if not self.stage.is_last:
            return hidden
        if step.wanted is None:
            hidden = hidden[arrays.logit_tokens[:num_drawn].to(hidden.device)]
        if self.drawer is not None and len(hidden):
            self.drawer.draw_greedily(hidden, arrays)
        return hidden

    def release_memory(self) -> None:
        """Give up the graphs, which can be captured again; those that a step still runs have to have ended."""
        self.graphs.clear()
        if self.recorder is not None:
            self.recorder.release_memory()

    def _room_for(self, shape: StepShape) -> torch.Tensor | None:
        """Return (num_tokens, hidden size) for what the stage before hands over; None in the first stage."""
        if self.stage.is_first:
            return None
        decoder = self.stage.decoder
        size = (shape.num_tokens, decoder.config.get_text_config().hidden_size)
        return torch.zeros(size, dtype=decoder.dtype, device=self.stage.device)
