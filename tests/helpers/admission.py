"""Queries of drawn lengths on the real scheduler, with a clock that tells how long each of its steps takes.

A token stands for `SCALE` tokens, so that runs are short, and a step for as many steps: a conversation that decodes
draws one token, and as many prompt tokens are read as in one step of the engine.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.pages import PagePool
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence as Generation
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.expectation import Expectation

SCALE = 4
PAGE_SIZE = 64 // SCALE
SYSTEM_PROMPT = list(range(450 // SCALE))
EXPECTED = Expectation(
    start_tokens=550 // SCALE,
    mean_tokens=1900 // SCALE,
    end_tokens=3400 // SCALE,
    drawn_tokens=510 // SCALE,
    read_tokens=2160 // SCALE,
)
MAX_TOKENS = 8192 // SCALE


# A step of an agent: (tokens drawn, tokens given after them) of a thought, an action and its arguments.
GENERATIONS = ((60 // SCALE, 8 // SCALE), (1, 200 // SCALE), (40 // SCALE, 256 // SCALE))


@dataclass
class Query:
    """A conversation of `num_steps` steps of an agent."""

    name: str
    num_steps: int
    token_ids: list[int] = field(default_factory=list)
    num_done: int = 0  # generations

    @property
    def next(self) -> tuple[int, int]:
        return GENERATIONS[self.num_done % len(GENERATIONS)]

    @property
    def is_over(self) -> bool:
        return self.num_done == self.num_steps * len(GENERATIONS)


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    seconds: float
    drawn_tokens: int
    finished: tuple[str, ...]  # in their order
    preemptions: int
    read_tokens: int
    numbers: tuple[int, ...]  # conversations at once, at every decision

    @property
    def rate(self) -> float:
        return self.drawn_tokens / self.seconds


Decide = Callable[["Simulation"], int]


class Simulation:
    """One replica with `kv_tokens` of KV cache (unscaled) that runs `queries`, as many at once as `decide` says.

    `decide` is asked every `beat_s` seconds. `latency_s` passes between a turn and the next: the API's.
    """

    def __init__(
        self, queries: Sequence[Query], kv_tokens: int, *, most: int = 128, latency_s: float = 0.0, beat_s: float = 0.25
    ) -> None:
        pool = PagePool(kv_tokens // SCALE // PAGE_SIZE, PAGE_SIZE)
        limits = Limits(max_running=most, max_prefill_tokens=448, max_prefill_rows=most)
        self.scheduler = Scheduler(pool, limits)
        self.clock_s = 0.0
        self.in_flight: dict[str, Query] = {}
        self.on_length: Callable[[str, int], None] = lambda name, tokens: None
        self.on_end: Callable[[str], None] = lambda name: None
        self._waiting = deque(queries)
        self._latency_s, self._beat_s = latency_s, beat_s
        self._asleep: list[tuple[float, Query]] = []
        self._numbers = itertools.count()
        self._owners: dict[Generation, Query] = {}

    @property
    def used_tokens(self) -> int:
        pool = self.scheduler.pool
        return (pool.num_pages - pool.num_free) * PAGE_SIZE

    def run(self, decide: Decide) -> Outcome:
        finished: list[str] = []
        numbers: list[int] = []
        next_beat_s, number, drawn = 0.0, 0, 0
        while self._waiting or self.in_flight:
            if self.clock_s >= next_beat_s:
                number = decide(self)
                numbers.append(number)
                next_beat_s = self.clock_s + self._beat_s
            while self._waiting and len(self.in_flight) < number:
                self._begin(self._waiting.popleft())
            active = set(itertools.islice(self.in_flight, number))  # the oldest
            for wake_s, query in [each for each in self._asleep if each[0] <= self.clock_s and each[1].name in active]:
                self._asleep.remove((wake_s, query))
                self._ask(query)
            plan = self.scheduler.plan()
            if plan is None:
                assert self._asleep, "nothing runs and nobody waits for an API: the scheduler is stuck"
                self.clock_s = max(self.clock_s, min(wake_s for wake_s, _ in self._asleep)) + 1e-3
                continue
            self.scheduler.note_launch(plan)
            self.clock_s += step_seconds(
                sum(row.count for row in plan.rows), sum(row.start + row.count for row in plan.decode)
            )
            tokens = [random.randrange(1000) for _ in plan.drawing]
            drawn += len(tokens)
            for generation in self.scheduler.take_tokens(plan, tokens):
                query = self._owners.pop(generation)
                query.token_ids = [*generation.token_ids]
                self.on_length(query.name, len(query.token_ids))
                read = query.next[1]
                query.num_done += 1
                if query.is_over:
                    self.scheduler.end_conversation(query.name)
                    del self.in_flight[query.name]
                    self.on_end(query.name)
                    finished.append(query.name)
                else:
                    query.token_ids += [random.randrange(1000) for _ in range(read)]
                    calls_api = query.num_done % len(GENERATIONS) == 0
                    self._asleep.append((self.clock_s + self._latency_s * calls_api, query))
        counts = self.scheduler.counts
        return Outcome(self.clock_s, drawn, tuple(finished), counts.preemptions, counts.prefill_tokens, tuple(numbers))

    def _begin(self, query: Query) -> None:
        query.token_ids = [*SYSTEM_PROMPT, *(random.randrange(1000) for _ in range(100 // SCALE))]
        self.in_flight[query.name] = query
        self._ask(query)

    def _ask(self, query: Query) -> None:
        drawn, _ = query.next
        request = GenerationRequest(query.token_ids, drawn, TokenSet([]), conversation_id=query.name)
        generation = Generation(next(self._numbers), request, drawn)
        self._owners[generation] = query
        self.scheduler.add(generation)


def step_seconds(num_tokens: int, attended_tokens: int) -> float:
    """A round of batches of the 8B shape over three H200s with 20 GiB each, by what was measured with 64 and 128
    conversations; tokens stand for `SCALE` each."""
    return SCALE * (7.5e-3 + num_tokens * 0.006e-3 + attended_tokens * SCALE * 0.012e-6)
