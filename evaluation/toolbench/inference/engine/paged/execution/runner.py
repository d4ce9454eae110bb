"""Runs planned steps: inputs to the devices, the model, the next tokens, and those back to the host.

`launch` only queues work on a GPU; `Launched.tokens` waits for it. Between the two the host plans the
next step: the last token of each sequence stays on the device, where that step picks it up.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.device import to_device
from evaluation.toolbench.inference.engine.device_constraint import allowed_tokens, step_nodes
from evaluation.toolbench.inference.engine.paged.execution.links import Link, Transfer
from evaluation.toolbench.inference.engine.paged.execution.output_head import logits_of
from evaluation.toolbench.inference.engine.paged.execution.stage_runner import StageRunner
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage, devices_of
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import (
    StepBuffers,
    StepShape,
    exact_shape,
    fill,
    graph_shape,
    graph_shapes,
)
from evaluation.toolbench.inference.engine.paged.execution.step_graph import StepGraph
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache
from evaluation.toolbench.inference.engine.paged.scheduler import Limits, Plan, StepRow
from evaluation.toolbench.inference.engine.request import Sampling
from evaluation.toolbench.inference.engine.sampling import SamplingRows, sample
from evaluation.toolbench.inference.engine.scoring import best_tokens, scoring_result

logger = logging.getLogger(__name__)

_NewNodes = tuple[torch.Tensor, torch.Tensor]  # (num_drawn,) int64 rows, and the node in its trie that each has come to


@dataclass(frozen=True, slots=True)
class Launched:
    """A step on its way: `drawn` on the host is valid once `done` has happened.

    It is int64 with a row for each of `plan.drawing`: the token, and behind it the scores where some row has a scoring.
    """

    plan: Plan
    drawn: torch.Tensor
    done: torch.cuda.Event | None

    def tokens(self) -> list[int]:
        """The tokens of `plan.drawing`, after waiting for them. Scores go to their sequences first."""
        if self.done is not None:
            self.done.synchronize()
        for row, values in zip(self.plan.drawing, self.drawn.numpy(), strict=True):
            if row.sequence.num_best:
                row.sequence.scores = scoring_result(values[1:].reshape(2, -1), row.sequence.num_best)
        return self.drawn[:, 0].tolist()


class ModelRunner:
    """Owns what the devices remember between steps: the last token of each running sequence and its place in a trie.

    A step passes the `stages` one after another; several steps may be on their way, each in another one.
    `num_rows` sequences run at once at most. `use_graphs` asks for CUDA graphs; what cannot be captured
    runs without them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stages: Items[Stage],
        cache: KvCache,
        *,
        vocab_size: int,
        num_rows: int,
        max_prefill_rows: int,
        table_width: int,
        use_graphs: bool,
    ) -> None:
        self._head = model.get_output_embeddings()
        self._cache = cache
        self._vocab_size = vocab_size
        self._max_prefill_rows = max_prefill_rows
        self._table_width = table_width
        self._device = stages[0].device
        self._head_device = stages[-1].device if len(stages) == 1 else self._head.weight.device
        self._tokens = torch.zeros(num_rows, dtype=torch.int64, device=self._device)
        self._nodes = torch.full((num_rows,), TokenTrie.ROOT, dtype=torch.int64, device=self._head_device)
        is_whole = len(stages) > 1 or devices_of(model) == {self._device}
        self.stages = [
            StageRunner(
                stage,
                cache,
                self._tokens,
                {stage.device} if len(stages) > 1 else {*cache.devices, stage.device},
                can_capture=use_graphs and is_whole and stage.device.type == "cuda",
            )
            for stage in stages
        ]
        self._links = [Link(here.device, there.device) for here, there in pairwise(stages)]
        # With several stages, the tokens come back by a way that does not hold up the steps in between.
        self._to_head = Link(stages[-1].device, self._head_device)
        self._to_start = Link(self._head_device, self._device)
        self._coming: dict[int, tuple[list[int], Transfer]] = {}  # by batch: rows, and the tokens on their way
        self._head_stream: torch.cuda.Stream | None = None
        if len(stages) > 1 and self._head_device.type == "cuda":
            self._head_stream = torch.cuda.Stream(self._head_device)
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
                self._graphs_of(shape)
        except torch.OutOfMemoryError:
            logger.warning(
                "no memory for the CUDA graphs of all %d kinds of steps: those that occur come first", len(shapes)
            )
            self.release_memory()

    @torch.inference_mode()
    def launch(self, plan: Plan) -> Launched:
        """Queue `plan` on the devices. What it raises, it raises before any token of it is drawn."""
        self._cache.copy_pages(plan.copies)
        self._take_tokens(plan.batch)
        drawing = plan.drawing
        hidden = self._read(plan)
        if not drawing:
            return Launched(plan, torch.empty(0, 1, dtype=torch.int64), None)
        hidden = hidden[: len(drawing)]
        if len(self.stages) == 1:
            drawn, scores, new_nodes = self._draw(drawing, logits_of(self._head, hidden))
            rows = to_device(_rows(drawing), torch.int64, self._device)
            launched = self._launched(plan, drawn, scores)
            self._tokens.index_copy_(0, rows, drawn.to(self._device))
            self._keep(new_nodes)
            return launched
        transfer = self._to_head.start(hidden)
        with _on(self._head_stream):
            drawn, scores, new_nodes = self._draw(drawing, logits_of(self._head, transfer.wait()))
            coming = _rows(drawing), self._to_start.start(drawn)
            launched = self._launched(plan, drawn, scores)
            self._coming[plan.batch] = coming
            self._keep(new_nodes)
            return launched

    def release_memory(self) -> None:
        """After an out-of-memory error: graphs and cached blocks, all of which can be made again."""
        devices = {runner.stage.device for runner in self.stages if runner.stage.device.type == "cuda"}
        for device in devices:
            torch.cuda.synchronize(device)  # the last step may still be running
        for runner in self.stages:
            runner.release_memory()
        if devices:
            torch.cuda.empty_cache()

    def _take_tokens(self, batch: int) -> None:
        """What the batch's last step drew elsewhere, for the step that reads it."""
        if batch in self._coming:
            rows, transfer = self._coming[batch]
            self._tokens.index_copy_(0, to_device(rows, torch.int64, self._device), transfer.wait())
            del self._coming[batch]

    def _read(self, plan: Plan) -> torch.Tensor:
        """(at least num_drawn, hidden size): the last layer's output for the rows of `plan.drawing`, in their order."""
        shape = graph_shape(plan, self._max_prefill_rows, self._table_width)
        graphs = self._graphs_of(shape) if shape is not None else None
        hidden: torch.Tensor | None = None
        if graphs is not None:
            inputs = self._fill(plan, graphs[0].layout)
            for index, graph in enumerate(graphs):
                hidden = graph.replay(inputs, self._handed(hidden, index))
        else:
            layout = StepBuffers(exact_shape(plan))
            inputs = self._fill(plan, layout)
            is_fresh = bool(plan.prefill) and all(row.start == 0 for row in plan.prefill)
            for index, runner in enumerate(self.stages):
                hidden = runner.forward(layout, inputs, self._handed(hidden, index), is_fresh=is_fresh)
        assert hidden is not None  # there is at least one stage
        return hidden

    def _handed(self, hidden: torch.Tensor | None, stage: int) -> torch.Tensor | None:
        """`hidden` of the stage before, where `stage` can use it; None for the first."""
        return None if hidden is None else self._links[stage - 1].start(hidden).wait()

    def _graphs_of(self, shape: StepShape) -> list[StepGraph] | None:
        """One graph a stage; None where some stage has none."""
        graphs = []
        for runner in self.stages:
            graph = runner.graph(shape)
            if graph is None:
                return None
            graphs.append(graph)
        return graphs

    def _fill(self, plan: Plan, layout: StepBuffers) -> torch.Tensor:
        """The inputs of `plan`, (layout.size,) int32, pinned where a GPU copies it while the host goes on."""
        host = torch.from_numpy(fill(plan, layout, self._cache.page_size))
        return host.pin_memory() if self._device.type == "cuda" else host

    def _launched(self, plan: Plan, drawn: torch.Tensor, scores: torch.Tensor | None) -> Launched:
        values = drawn[:, None] if scores is None else torch.cat([drawn[:, None], scores.flatten(1)], dim=1)
        if values.device.type != "cuda":
            return Launched(plan, values, None)
        on_host = torch.empty(values.shape, dtype=torch.int64, pin_memory=True)
        on_host.copy_(values, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(values.device))
        return Launched(plan, on_host, done)

    def _draw(
        self, drawing: Items[StepRow], logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, _NewNodes | None]:
        """(num_drawn,) int64 tokens, where the logits are, the rows' scores where any are asked for, and what `_keep`
        is to be given for the tokens."""
        sequences = [row.sequence for row in drawing]
        constraints = [sequence.request.constraint for sequence in sequences]
        device = logits.device
        rows = to_device(_rows(drawing), torch.int64, self._nodes.device)
        nodes = self._places(drawing, rows).to(device)
        positions = to_device([sequence.num_drawn for sequence in sequences], torch.int64, device)
        allowed = allowed_tokens(constraints, nodes, self._vocab_size)
        drawn = sample(logits, self._rows_of(tuple(s.request.sampling for s in sequences), device), positions, allowed)
        num_best = max(sequence.num_best for sequence in sequences)
        scores = best_tokens(logits, allowed, num_best) if num_best else None
        if any(sequence.has_trie for sequence in sequences):
            nodes = step_nodes(constraints, nodes, drawn, self._vocab_size)
            return drawn, scores, (rows, nodes.to(self._nodes.device))
        return drawn, scores, None

    def _keep(self, nodes: _NewNodes | None) -> None:
        """Note where the drawn tokens lead in their tries."""
        if nodes is not None:
            self._nodes.index_copy_(0, *nodes)

    def _places(self, drawing: Items[StepRow], rows: torch.Tensor) -> torch.Tensor:
        """(num_drawn,) int64: each sequence's node in its trie, from the host wherever it knows the last token."""
        if not any(row.sequence.has_trie for row in drawing):
            return torch.zeros_like(rows)
        known = [-1 if row.sequence.num_unknown else row.sequence.walk.node for row in drawing]
        on_host = to_device(known, torch.int64, self._nodes.device)
        return torch.where(on_host >= 0, on_host, self._nodes[rows])

    def _rows_of(self, samplings: tuple[Sampling, ...], device: torch.device) -> SamplingRows:
        """The last ones again where the batch is the same, as it is for most steps."""
        if samplings != self._samplings:
            self._samplings, self._sampling_rows = samplings, SamplingRows.of(samplings, device)
        return self._sampling_rows


def _rows(drawing: Items[StepRow]) -> list[int]:
    """Where the devices keep what belongs to each of these sequences."""
    return [row.sequence.running_slot for row in drawing]


@contextlib.contextmanager
def _on(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """With `stream` as its device's current one; on the CPU there are none."""
    with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
        yield
