"""Runs planned steps: `launch` prepares the inputs, has the stages compute, and draws the next tokens.

On a GPU all of that is only queued; `LaunchedStep.tokens` waits for it. Between the two the host plans the
next step: the last token of each sequence stays on the device, where that step picks it up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.paged.execution.drawing import Draws, TokenDrawer
from evaluation.toolbench.inference.engine.paged.execution.links import Arrival, Link, on_stream
from evaluation.toolbench.inference.engine.paged.execution.output_head import OutputHead
from evaluation.toolbench.inference.engine.paged.execution.slot_table import SlotTable
from evaluation.toolbench.inference.engine.paged.execution.stage_runner import StageRunner
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage, devices_of
from evaluation.toolbench.inference.engine.paged.execution.staging import Staging
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import (
    StepArrays,
    StepBuffers,
    StepShape,
    exact_shape,
    graph_shape,
    graph_shapes,
)
from evaluation.toolbench.inference.engine.paged.execution.step_graph import GraphRecorder, StepGraph, recorder_for
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.plan import Plan
from evaluation.toolbench.inference.engine.paged.step_sizes import most_rows
from evaluation.toolbench.inference.engine.scoring import scoring_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaunchedStep:
    """Waits for a step on its way. Its `staging` is another step's once its tokens have been taken."""

    plan: Plan
    draws: Draws
    staging: Staging
    first_slot: int  # whose token is the first of those that the step brings back
    free: list[Staging]

    def tokens(self) -> list[int]:
        """Return the tokens of `plan.drawing`, after waiting for the step; scores go to their sequences. To be
        called once.
        """
        self.staging.wait()
        tokens = self.staging.tokens.tolist() if self.draws.slots else []
        if self.draws.scored:
            self._hand_out_scores()
        self.free.append(self.staging)
        first_slot = self.first_slot
        return [tokens[slot - first_slot] for slot in self.draws.slots]

    def _hand_out_scores(self) -> None:
        assert self.staging.scores is not None  # they came with the tokens
        scored = self.draws.special[-self.draws.num_scored :]
        sequences = [self.plan.drawing[index].sequence for index in scored]
        results = scoring_results(self.staging.scores.numpy(), [sequence.num_best for sequence in sequences])
        for sequence, result in zip(sequences, results, strict=True):
            sequence.scores = result


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Holds a step before it is computed."""

    plan: Plan
    layout: StepBuffers
    graphs: list[StepGraph] | None  # one a stage; None: the step has no shape that graphs are captured for
    inputs: torch.Tensor  # (layout.size,) int32 on the host
    draws: Draws
    staging: Staging


class ModelRunner:
    """Owns what host and devices remember of the slots between steps.

    A step passes the `stages` one after another; several steps may be on their way, each in another one, and each of
    another of the `num_batches`. A batch has `slots_per_batch` slots, the first one from 1 on. `use_graphs` asks for
    CUDA graphs; what cannot be captured runs without them. `recorder_for` gives what makes them for a device.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stages: Items[Stage],
        cache: KvCache,
        *,
        vocab_size: int,
        num_batches: int,
        slots_per_batch: int,
        max_prefill_rows: int,
        table_width: int,
        use_graphs: bool,
        recorder_for: Callable[[torch.device], GraphRecorder | None] = recorder_for,
    ) -> None:
        self._cache = cache
        self._num_batches = num_batches
        self._slots_per_batch = slots_per_batch
        self._max_prefill_rows = max_prefill_rows
        self._table_width = table_width
        num_slots = num_batches * slots_per_batch
        first, last = stages[0].device, stages[-1].device
        head = model.get_output_embeddings()
        self._head_device = last if len(stages) == 1 else head.weight.device
        self._slots = SlotTable(num_slots, table_width, cache.page_size)
        max_rows = most_rows(slots_per_batch) + max_prefill_rows
        output_head = OutputHead(head, self._head_device, vocab_size=vocab_size, max_rows=max_rows)
        self._drawer = TokenDrawer(output_head, num_slots)
        self._is_drawn_in_stage = self._head_device == last
        tokens = self._drawer.tokens
        self._tokens = tokens if self._head_device == first else torch.zeros_like(tokens, device=first)
        is_whole = len(stages) > 1 or devices_of(model) == {first}
        can_capture = use_graphs and is_whole
        self.stages = [
            StageRunner(
                stage,
                cache,
                self._tokens,
                {stage.device} if len(stages) > 1 else {*cache.devices, stage.device},
                recorder=recorder_for(stage.device) if can_capture else None,
                drawer=self._drawer if stage is stages[-1] and self._is_drawn_in_stage else None,
            )
            for stage in stages
        ]
        self._links = [Link(here.device, there.device) for here, there in pairwise(stages)]
        self._to_head = Link(last, self._head_device)
        self._to_start = Link(self._head_device, first)
        # An output embedding that is with another stage does not wait for the steps of that one.
        self._head_stream: torch.cuda.Stream | None = None
        if not self._is_drawn_in_stage and self._head_device.type == "cuda":
            self._head_stream = torch.cuda.Stream(self._head_device)
        self._arrivals: dict[int, Arrival] = {}  # by batch: its last step's tokens at the first stage
        self._is_pinned = any(stage.device.type == "cuda" for stage in stages)
        self._free: list[Staging] = []

    @torch.inference_mode()
    def capture(self, limits: Limits) -> None:
        """Capture the graphs of all steps within `limits`; the largest first, whose memory serves the others too."""
        shapes = graph_shapes(
            max_decode_rows=min(limits.max_running, self._slots_per_batch),
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
    def launch(self, plan: Plan) -> LaunchedStep:
        """Queue `plan` on the devices. What it raises, it raises before any token of it is taken."""
        staging = self._free.pop() if self._free else Staging(self._slots_per_batch, is_pinned=self._is_pinned)
        try:
            step = self._prepare(plan, staging)
            hidden = self._forward(step)
            return self._draw(step, hidden)
        except BaseException:
            self._wait_for_devices()  # what has been queued may still use the staging
            self._free.append(staging)
            raise

    def release_memory(self) -> None:
        """Give up, after an out-of-memory error, graphs and cached blocks, all of which can be made again."""
        self._wait_for_devices()  # the last step may still be running
        for runner in self.stages:
            runner.release_memory()
        if self._is_pinned:
            torch.cuda.empty_cache()

    def _prepare(self, plan: Plan, staging: Staging) -> _Prepared:
        """Write the inputs of `plan`, and find the graphs that will compute it."""
        self._cache.copy_pages(plan.copies)
        shape = graph_shape(plan, self._max_prefill_rows, self._table_width)
        graphs = self._graphs_of(shape) if shape is not None else None
        layout = graphs[0].layout if graphs is not None else StepBuffers(exact_shape(plan))
        inputs = staging.inputs(layout.size)
        draws = self._slots.fill(plan, layout, inputs.numpy())
        arrival = self._arrivals.pop(plan.batch, None)
        if arrival is not None:
            arrival.wait()
        return _Prepared(plan, layout, graphs, inputs, draws, staging)

    def _forward(self, step: _Prepared) -> torch.Tensor:
        """Return the last layer's output for the rows that draw, in their order: (as many or more, hidden size).

        Where the output embedding lies with the last layers, they are drawn from as well.
        """
        rows = step.plan.prefill
        is_fresh = step.graphs is None and bool(rows) and all(row.start == 0 for row in rows)
        hidden: torch.Tensor | None = None
        for index, runner in enumerate(self.stages):
            if hidden is not None:
                hidden = step.staging.handed_over(self._links[index - 1], hidden)
            if step.graphs is not None:
                hidden = step.graphs[index].replay(step.inputs, hidden)
            else:
                hidden = runner.forward(
                    step.layout, step.inputs, hidden, is_fresh=is_fresh, num_drawn=len(step.draws.slots)
                )
        assert hidden is not None  # there is at least one stage
        return hidden

    def _draw(self, step: _Prepared, hidden: torch.Tensor) -> LaunchedStep:
        """Draw what is not drawn yet, and send the tokens to the first stage and to the host."""
        plan, draws, staging = step.plan, step.draws, step.staging
        first_slot = 1 + plan.batch * self._slots_per_batch
        if not draws.slots:
            staging.note_end(self.stages[-1].stage.device)
            return LaunchedStep(plan, draws, staging, first_slot, self._free)
        with on_stream(self._head_stream):
            if not self._is_drawn_in_stage:
                hidden = staging.handed_over(self._to_head, hidden[: len(draws.slots)])
                self._drawer.draw_greedily(hidden, self._arrays_at_head(step))
            scores = self._drawer.draw_special(draws, self._arrays_at_head(step)) if draws.special else None
            tokens = self._drawer.tokens[first_slot : first_slot + self._slots_per_batch]
            if self._tokens is not self._drawer.tokens:
                target = self._tokens[first_slot : first_slot + self._slots_per_batch]
                self._arrivals[plan.batch] = self._to_start.copy(tokens, target)
            elif len(self.stages) > 1:
                self._arrivals[plan.batch] = Arrival.now(self._head_device)
            staging.take_back(tokens, scores)
        return LaunchedStep(plan, draws, staging, first_slot, self._free)

    def _arrays_at_head(self, step: _Prepared) -> StepArrays[torch.Tensor]:
        """Return the step's arrays on the device where its tokens are drawn."""
        if step.graphs is not None and self._is_drawn_in_stage:
            return step.graphs[-1].arrays
        return step.layout.views(step.inputs.to(self._head_device, non_blocking=True))

    def _graphs_of(self, shape: StepShape) -> list[StepGraph] | None:
        """Return one graph for each stage; None where some stage has none."""
        graphs = []
        for runner in self.stages:
            graph = runner.graph(shape)
            if graph is None:
                return None
            graphs.append(graph)
        return graphs

    def _wait_for_devices(self) -> None:
        for device in {runner.stage.device for runner in self.stages}:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
