"""Predicts how fast agents are served by a model over several GPUs: the engine's scheduler, times from a table.

    python -m benchmarks.pipeline_steps                                    # one to four, 64 and 128 conversations
    python -m benchmarks.pipeline_steps --stages 3 --conversations 128 --kv_tokens 250000 --trace

Needs no GPU. Steps take what an H200 was measured to need for an 8B model (`benchmarks/README.md`), divided over the
stages as the planner divides the layers; each stage takes one step at a time, in the order of their launch, and the
host plans, launches and waits as `PagedEngine` does. A caller asks again a millisecond after its tokens came. Rates are
for comparing policies with each other: the last line of each row is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np

from benchmarks.conversations import Generation, make_conversation, turns
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import graph_shape
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.pages import PagePool, extend_names
from evaluation.toolbench.inference.engine.paged.plan import Plan
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence as Running
from evaluation.toolbench.inference.engine.request import GenerationRequest

# Milliseconds of an H200 for the matrix products of all 32 layers of an 8B model, by tokens of the step.
_PRODUCTS_MS = {1: 3.68, 16: 3.74, 64: 4.06, 128: 4.35, 192: 5.07, 256: 5.69, 288: 6.65, 320: 6.70, 384: 7.74}
_PRODUCTS_MS |= {416: 9.45, 448: 13.23, 512: 9.53, 576: 12.72, 640: 12.8, 768: 15.0, 1024: 20.0, 1536: 30.0}
_NUM_LAYERS = 32
# The planner's layers for one to four H200s and 64 conversations; the output embedding is with the last.
LAYERS = {1: (32,), 2: (17, 15), 3: (11, 12, 9), 4: (9, 8, 9, 6)}
_KV_BYTES, _BYTES_PER_MS = 131_072, 4.0e9  # of a token, in all layers; what decode attention reads
_ATTENTION_FLOP, _FLOP_PER_MS = 4 * 4096 * _NUM_LAYERS, 120e9  # of a prompt token and one before it
_HEAD_MS = 0.5
_OTHER_MS, _OTHER_MS_PER_TOKEN = 0.6, 0.002  # norms, rotations, activations, sums
_STAGE_MS = 0.06  # of each stage of each step: a copy of inputs, the hidden states' way, the start of a graph
_HOST_MS, _TAKE_MS = 0.35, 0.05  # of a step: to plan and launch it, and to take its tokens
_NO_STOP = TokenSet([])
_TABLE_WIDTH = 128


@dataclass(slots=True)
class Work:
    """Describes a step's shape, as far as its time depends on it."""

    tokens: int  # padding included
    read: int  # stored tokens that decoding rows read
    seen: int  # pairs of a prompt token and one before it
    draws: bool

    @classmethod
    def of(cls, plan: Plan, num_tokens: int) -> Work:
        """Return what `plan` is, padded to `num_tokens`."""
        read = sum(row.start + 1 for row in plan.decode)
        seen = sum(row.count * (row.start + row.count // 2) for row in plan.prefill)
        return cls(num_tokens, read, seen, bool(plan.drawing))


def stage_ms(work: Work, num_layers: int, *, is_last: bool) -> float:
    """Return what one stage needs for a step, in ms."""
    products = float(np.interp(work.tokens, list(_PRODUCTS_MS), list(_PRODUCTS_MS.values())))
    attention = work.read * _KV_BYTES / _BYTES_PER_MS + work.seen * _ATTENTION_FLOP / _FLOP_PER_MS
    other = _OTHER_MS + _OTHER_MS_PER_TOKEN * work.tokens
    head = _HEAD_MS if is_last and work.draws else 0.0
    return (products + attention + other) * num_layers / _NUM_LAYERS + head + _STAGE_MS


class Stages:
    """Knows until when each of `num_stages` is taken by the steps that have been launched; times in ms."""

    def __init__(self, num_stages: int) -> None:
        self._layers = LAYERS[num_stages]
        self.free = [0.0] * num_stages
        self.busy = [0.0] * num_stages  # in all

    def run(self, work: Work, at: float) -> list[tuple[float, float]]:
        """Put a step that may begin `at` behind those before it; when each stage begins it, and how long it takes."""
        times = []
        for stage, num_layers in enumerate(self._layers):
            began = max(at, self.free[stage])
            took = stage_ms(work, num_layers, is_last=stage == len(self._layers) - 1)
            times.append((began, took))
            at = self.free[stage] = began + took
            self.busy[stage] += took
        return times


@dataclass(slots=True)
class _Step:
    plan: Plan
    ends_at: float


@dataclass
class Simulation:
    """Simulates `conversations` at once, `queries` in all, over `num_stages` stages whose pages hold `kv_tokens`."""

    num_stages: int
    conversations: int
    queries: int
    kv_tokens: int
    limits: Limits
    seen_tokens: list[int] = field(default_factory=list)  # prompt tokens of each step
    seen_rows: list[int] = field(default_factory=list)  # of those that decode
    without_graph: int = 0
    trace: bool = False
    answer_ms: float = 1.0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(PagePool(self.kv_tokens // PAGE_SIZE, PAGE_SIZE), self.limits, self.num_stages)
        self._numbers = itertools.count()
        self._left = iter(range(self.queries))
        self._asking: dict[Running, tuple[str, Generator[Generation, Sequence[int], None]]] = {}
        self._inbox: list[tuple[float, int, Running | str]] = []  # by time: requests, and conversations that ended
        self._stages = Stages(self.num_stages)
        self._batch_free = [0.0] * self.num_stages  # when its last step's tokens are known to the first stage
        self._now = 0.0
        self._random = random.Random(0)

    def run(self) -> dict[str, Any]:
        """Return queries a minute, and what the steps were like."""
        for _ in range(self.conversations):
            self._begin(0.0)
        in_flight: deque[_Step] = deque()
        batches = deque(range(self.num_stages))
        while self._asking or self._inbox:
            if not in_flight and not self.scheduler.has_work and self._inbox:
                self._now = max(self._now, self._inbox[0][0])
            self._take_messages()
            step = self._launch_next(batches, in_flight)
            if step is not None:
                in_flight.append(step)
                while batches[-1] != step.plan.batch:
                    batches.rotate(-1)
            if in_flight and (step is None or len(in_flight) > self.num_stages):
                self._finish(in_flight.popleft())
            elif not in_flight and step is None and self._inbox:
                self._now = max(self._now, self._inbox[0][0])
        counts = self.scheduler.counts
        return {
            "stages": self.num_stages,
            "conversations": self.conversations,
            "queries_per_min": round(6e4 * self.queries / self._now, 1),
            "step_ms": round(self._now / counts.steps, 2),
            "prompt_tokens": round(statistics.fmean(self.seen_tokens), 1),
            "prompt_spread": round(statistics.pstdev(self.seen_tokens), 1),
            "decode_rows": round(statistics.fmean(self.seen_rows), 1),
            "busy": [round(busy / self._now, 2) for busy in self._stages.busy],
            "without_graph": self.without_graph,
            "prefill_tokens": counts.prefill_tokens,
            "preemptions": counts.preemptions,
            "evictions": counts.evictions,
        }

    def _begin(self, when: float) -> None:
        number = next(self._left, None)
        if number is None:
            return
        conversation = make_conversation(number, vocab_size=32_000)
        asked = turns(conversation)
        self._ask(when, conversation.conversation_id, asked, next(asked))

    def _ask(
        self, when: float, name: str, asked: Generator[Generation, Sequence[int], None], generation: Generation
    ) -> None:
        request = GenerationRequest(generation.prompt_ids, generation.max_new_tokens, _NO_STOP, conversation_id=name)
        sequence = Running(next(self._numbers), request, generation.max_new_tokens)
        extend_names(sequence.names, request.prompt_ids, PAGE_SIZE)
        self._asking[sequence] = (name, asked)
        heappush(self._inbox, (when, next(self._numbers), sequence))

    def _answer(self) -> float:
        """Return the ms until the next request: between half the mean and one and a half times it."""
        return self.answer_ms * (0.5 + self._random.random())

    def _take_messages(self) -> None:
        while self._inbox and self._inbox[0][0] <= self._now:
            _, _, message = heappop(self._inbox)
            if isinstance(message, str):
                self.scheduler.end_conversation(message)
            else:
                self.scheduler.add(message)

    def _launch_next(self, batches: deque[int], in_flight: deque[_Step]) -> _Step | None:
        busy = Counter(step.plan.batch for step in in_flight)
        for batch in batches:
            plan = self.scheduler.plan(batch) if busy[batch] < 2 else None
            if plan is not None:
                self._now += _HOST_MS
                self.scheduler.note_launch(plan)
                return _Step(plan, self._run(plan))
        return None

    def _run(self, plan: Plan) -> float:
        """Put the step behind those before it; when its tokens are known."""
        shape = graph_shape(plan, self.limits.max_prefill_rows, _TABLE_WIDTH)
        self.seen_tokens.append(sum(row.count for row in plan.prefill))
        self.seen_rows.append(len(plan.decode))
        at = max(self._now, self._batch_free[plan.batch])
        if shape is not None:
            work = Work.of(plan, shape.num_tokens)
        else:
            self.without_graph += 1
            at += 10.0
            self._now = at
            work = Work(sum(row.count for row in plan.rows), 0, 0, True)
        times = self._stages.run(work, at)
        ends_at = self._batch_free[plan.batch] = sum(times[-1])
        if self.trace:
            tokens = self.seen_tokens[-1]
            began = [f"{began:.2f}+{took:.2f}" for began, took in times]
            print(f"{self._now:9.2f} batch {plan.batch} {len(plan.decode):3} rows {tokens:4} tokens", *began)
        return ends_at

    def _finish(self, step: _Step) -> None:
        self._now = max(self._now, step.ends_at) + _TAKE_MS
        tokens = [row.sequence.num_drawn % 1000 for row in step.plan.drawing]
        for sequence in self.scheduler.take_tokens(step.plan, tokens):
            name, asked = self._asking.pop(sequence)
            try:
                generation = asked.send(sequence.token_ids[sequence.num_prompt :])
            except StopIteration:
                heappush(self._inbox, (self._now + 0.5, next(self._numbers), name))
                self._begin(self._now + self._answer())
            else:
                self._ask(self._now + self._answer(), name, asked, generation)


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    for num_stages, count in itertools.product(args.stages, args.conversations):
        max_running = max(args.max_running or 0, count)
        limits = Limits.of(num_stages, max_running=max_running, max_prefill_tokens=args.max_prefill_tokens)
        queries = round(args.rounds * count)
        simulation = Simulation(
            num_stages, count, queries, args.kv_tokens, limits, trace=args.trace, answer_ms=args.answer_ms
        )
        print(json.dumps(simulation.run()), flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stages", type=numbers, default=[1, 2, 3, 4], help=f"of {list(LAYERS)} (default: all)")
    parser.add_argument("--conversations", type=numbers, default=[64, 128], help="at once (default: 64,128)")
    parser.add_argument("--max_running", type=int, help="of the engine (default: the conversations)")
    parser.add_argument("--max_prefill_tokens", type=int, help="of the engine (default: follows the load)")
    parser.add_argument("--kv_tokens", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=float, default=2.0, help="queries for each conversation (default: 2)")
    parser.add_argument("--answer_ms", type=float, default=1.0, help="from tokens to the next request (default: 1)")
    parser.add_argument("--trace", action="store_true", help="each step, with when each stage began it and its time")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
