"""Runs planned steps: inputs to the devices, the model, the next tokens, and those back to the host.

`launch` only queues work on a GPU; `Launched.tokens` waits for it. Between the two the host plans the
next step: the last token of each sequence stays on the device, where that step picks it up.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.device_constraint import allowed_tokens, step_nodes
from evaluation.toolbench.inference.engine.host_step import HostStep
from evaluation.toolbench.inference.engine.kv_cache import KvCache
from evaluation.toolbench.inference.engine.paged_step import PagedStep
from evaluation.toolbench.inference.engine.paging import Paging, last_hidden
from evaluation.toolbench.inference.engine.request import Sampling
from evaluation.toolbench.inference.engine.sampling import SamplingRows, sample, to_device
from evaluation.toolbench.inference.engine.scheduler import Limits, Plan, Row
from evaluation.toolbench.inference.engine.step_graph import StepGraph
from evaluation.toolbench.inference.engine.step_layout import (
    StepLayout,
    StepShape,
    exact_shape,
    fill,
    graph_shape,
    graph_shapes,
)
from evaluation.toolbench.inference.multi_gpu.loading import embedding_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launched:
    """A step on its way: `drawn` (num_drawn,) int64 on the host is valid once `done` has happened."""

    plan: Plan
    drawn: torch.Tensor
    done: torch.cuda.Event | None

    def tokens(self) -> list[int]:
        """The tokens of `plan.drawing`, after waiting for them."""
        if self.done is not None:
            self.done.synchronize()
        return self.drawn.tolist()


class ModelRunner:
    """Owns what the device remembers between steps: the last token of each running sequence and its place in a trie.

    `use_graphs` asks for CUDA graphs; a model spread over several devices, or one that cannot be
    captured, runs without them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        cache: KvCache,
        *,
        vocab_size: int,
        max_running: int,
        max_prefill_rows: int,
        table_width: int,
        use_graphs: bool,
    ) -> None:
        self._model = model
        self._cache = cache
        self._vocab_size = vocab_size
        self._max_prefill_rows = max_prefill_rows
        self._table_width = table_width
        self._device = embedding_device(model)
        self._is_on_host = self._device.type == "cpu" and cache.devices == [self._device]
        self._tokens = torch.zeros(max_running, dtype=torch.int64, device=self._device)
        self._nodes = torch.full((max_running,), TokenTrie.ROOT, dtype=torch.int64, device=self._device)
        self._use_graphs = use_graphs and self._device.type == "cuda" and _devices(model) == {self._device}
        self._graphs: dict[StepShape, StepGraph] = {}
        self._graph_pool: Any = None  # an opaque handle of PyTorch's
        self._samplings: tuple[Sampling, ...] = ()
        self._sampling_rows = SamplingRows.of([], self._device)

    @torch.inference_mode()
    def capture(self, limits: Limits) -> None:
        """Capture the graphs of all steps within `limits`; the largest first, whose memory serves the others too."""
        shapes = graph_shapes(
            max_decode_rows=limits.max_running,
            max_prefill_rows=self._max_prefill_rows,
            max_prefill_tokens=limits.max_prefill_tokens,
            table_width=self._table_width,
        )
        try:
            for shape in shapes:
                if self._use_graphs:
                    self._graph(shape)
        except torch.OutOfMemoryError:
            logger.warning(
                "no memory for the CUDA graphs of all %d kinds of steps: those that occur come first", len(shapes)
            )
            self.release_memory()

    @torch.inference_mode()
    def launch(self, plan: Plan) -> Launched:
        """Queue `plan` on the devices. What it raises, it raises before any token of it is drawn."""
        for source, target in plan.copies:
            self._cache.copy_page(source, target)
        drawing = plan.drawing
        hidden = self._read(plan)
        if not drawing:
            return Launched(plan, torch.empty(0, dtype=torch.int64), None)
        drawn = self._draw(drawing, self._model.get_output_embeddings()(hidden[: len(drawing)]))
        if self._device.type != "cuda":
            return Launched(plan, drawn, None)
        on_host = torch.empty(len(drawing), dtype=torch.int64, pin_memory=True)
        on_host.copy_(drawn, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return Launched(plan, on_host, done)

    def release_memory(self) -> None:
        """After an out-of-memory error: graphs and cached blocks, all of which can be made again."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the last step may still be running
        self._graphs.clear()
        self._graph_pool = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _read(self, plan: Plan) -> torch.Tensor:
        """(at least num_drawn, hidden size): the last layer's output for the rows of `plan.drawing`, in their order."""
        shape = graph_shape(plan, self._max_prefill_rows, self._table_width) if self._use_graphs else None
        if shape is not None:
            graph = self._graph(shape)
            if graph is not None:
                return graph.replay(self._fill(plan, graph.layout))
        layout = StepLayout(exact_shape(plan))
        host = self._fill(plan, layout)
        buffers = {device: host.to(device, non_blocking=True) for device in {*self._cache.devices, self._device}}
        is_fresh = bool(plan.prefill) and all(row.start == 0 for row in plan.prefill)
        return self._forward(layout, buffers, is_fresh=is_fresh)

    def _forward(
        self, layout: StepLayout, buffers: dict[torch.device, torch.Tensor], *, is_fresh: bool = False
    ) -> torch.Tensor:
        arrays = layout.views(buffers[self._device])
        kept = self._tokens[arrays.token_rows.clamp(min=0)]
        ids = torch.where(arrays.token_rows >= 0, kept, arrays.ids.long())
        step: Paging
        if self._is_on_host:
            step = HostStep(layout, buffers[self._device], self._cache)
        else:
            step = PagedStep(layout, buffers, self._cache, is_fresh=is_fresh)
        hidden = last_hidden(self._model, ids.unsqueeze(0), arrays.positions.long().unsqueeze(0), step)[0]
        # Few of the tokens are drawn from: the output embedding of a large vocabulary is for those alone.
        return hidden[arrays.logit_tokens.to(hidden.device).long()]

    def _fill(self, plan: Plan, layout: StepLayout) -> torch.Tensor:
        """The inputs of `plan`, (layout.size,) int32, pinned where a GPU copies it while the host goes on."""
        host = torch.from_numpy(fill(plan, layout, self._cache.page_size))
        return host.pin_memory() if self._device.type == "cuda" else host

    def _graph(self, shape: StepShape) -> StepGraph | None:
        """The graph for steps of `shape`, captured at its first use; None, for good, once a capture has failed."""
        if shape not in self._graphs:
            try:
                if self._graph_pool is None:
                    self._graph_pool = torch.cuda.graph_pool_handle()
                graph = StepGraph(StepLayout(shape), self._device, self._graph_pool, self._forward)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                logger.warning("CUDA graphs are off, steps will be slower: capturing %s failed: %s", shape, error)
                self._use_graphs = False
                return None
            self._graphs[shape] = graph
        return self._graphs[shape]

    def _draw(self, drawing: Items[Row], logits: torch.Tensor) -> torch.Tensor:
        """(num_drawn,) int64 tokens; also kept on the device for the next step."""
        sequences = [row.sequence for row in drawing]
        constraints = [sequence.request.constraint for sequence in sequences]
        device = logits.device
        rows = to_device([sequence.row or 0 for sequence in sequences], torch.int64, self._device)
        nodes = self._places(drawing, rows).to(device)
        positions = to_device([sequence.num_drawn for sequence in sequences], torch.int64, device)
        allowed = allowed_tokens(constraints, nodes, self._vocab_size)
        drawn = sample(logits, self._rows_of(tuple(s.request.sampling for s in sequences), device), positions, allowed)
        self._tokens.index_copy_(0, rows, drawn.to(self._device))
        if any(sequence.has_trie for sequence in sequences):
            nodes = step_nodes(constraints, nodes, drawn, self._vocab_size)
            self._nodes.index_copy_(0, rows, nodes.to(self._device))
        return drawn

    def _places(self, drawing: Items[Row], rows: torch.Tensor) -> torch.Tensor:
        """(num_drawn,) int64: each sequence's node in its trie, from the host wherever it knows the last token."""
        if not any(row.sequence.has_trie for row in drawing):
            return torch.zeros_like(rows)
        known = [-1 if row.sequence.num_unknown else row.sequence.walk.node for row in drawing]
        on_host = to_device(known, torch.int64, self._device)
        return torch.where(on_host >= 0, on_host, self._nodes[rows])

    def _rows_of(self, samplings: tuple[Sampling, ...], device: torch.device) -> SamplingRows:
        """The last ones again where the batch is the same, as it is for most steps."""
        if samplings != self._samplings:
            self._samplings, self._sampling_rows = samplings, SamplingRows.of(samplings, device)
        return self._sampling_rows


def _devices(model: PreTrainedModel) -> set[torch.device]:
    """Where its weights lie; those that are offloaded count as elsewhere."""
    return {tensor.device for tensor in model.parameters()}
