"""Which sequences take part in the next step, with how many tokens, and on which pages.

Pure bookkeeping: no tensors, no threads, no clock. The caller alternates

    plan = scheduler.plan()          # decides, takes pages
    ... run it ...
    scheduler.launched(plan)         # the step is on its way: its keys and values count as stored
    scheduler.read(plan, tokens)     # the tokens it drew

and may plan and launch the next step before it reads the tokens of the last one. Where several devices
share the model, the running sequences are divided over several batches, and each has a step of its own
on its way: `plan(batch)`. A plan that could not be launched is simply forgotten: what it took stays with
the sequences, and the next plan repeats the work.

Order of arrival is the order of service. A sequence joins when its whole prompt has pages; when a
running one needs a page and none is free, idle conversations lose theirs first (the longest idle one
before others), then the youngest running sequence, which starts again later. So the oldest sequence
always moves on, and since any one sequence fits the pool alone, every sequence ends.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace

from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.engine.paged.pages import PagePool, extend_names
from evaluation.toolbench.inference.engine.paged.prefix import Prefix, PrefixStore
from evaluation.toolbench.inference.engine.paged.sequence import Sequence

_PREFILL_TOKENS = 448  # with 64 sequences that decode, a step of 512 tokens
_CALM_STEPS = 1000  # without an out-of-memory error, after which steps may be twice as large again
_SMALLEST_CHUNK = 32  # tokens: a step's fixed costs are shared by at least so many tokens of a long prompt


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a step may become."""

    max_running: int = MAX_RUNNING  # sequences with a part in the steps
    max_prefill_tokens: int = _PREFILL_TOKENS  # prompt tokens a step, all sequences together
    max_prefill_rows: int = 16  # sequences that read more than one token in a step

    @classmethod
    def of(cls, num_batches: int, *, max_running: int, max_prefill_tokens: int | None) -> Limits:
        """Where nothing is said of prompt tokens, the default is divided among the batches that are on their way.

        Steps of equal size keep several GPUs equally busy: a little of the prompts in each is better than much in some.
        """
        if max_prefill_tokens is None:
            max_prefill_tokens = max(_SMALLEST_CHUNK, _PREFILL_TOKENS // num_batches)
        return cls(max_running, max_prefill_tokens)

    def halved(self) -> Limits | None:
        """For a device that ran out of memory; None when there is nothing left to halve."""
        smaller = replace(
            self,
            max_running=max(1, self.max_running // 2),
            max_prefill_tokens=min(self.max_prefill_tokens, max(_SMALLEST_CHUNK, self.max_prefill_tokens // 2)),
        )
        return None if smaller == self else smaller

    def doubled(self, most: Limits) -> Limits:
        """Twice as much, and no more than `most`."""
        return replace(
            self,
            max_running=min(most.max_running, 2 * self.max_running),
            max_prefill_tokens=min(most.max_prefill_tokens, 2 * self.max_prefill_tokens),
        )


@dataclass(frozen=True, slots=True)
class StepRow:
    """`count` tokens of a sequence from position `start` on; with the last one a token is drawn if `draws`."""

    sequence: Sequence
    start: int
    count: int
    draws: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A step: rows of one token, then rows of several; `copies` of pages (from, to) come before either."""

    decode: list[StepRow]
    prefill: list[StepRow]
    copies: list[tuple[int, int]]
    batch: int = 0  # whose step it is

    @property
    def rows(self) -> list[StepRow]:
        return self.decode + self.prefill

    @property
    def drawing(self) -> list[StepRow]:
        """The rows that draw a token, in the order of the tokens."""
        return [row for row in self.rows if row.draws]


@dataclass(slots=True)
class Counts:
    """What a scheduler has done so far; tokens count when their step is launched."""

    steps: int = 0
    prefill_tokens: int = 0  # prompt tokens read by the model, those read again after a preemption included
    reused_tokens: int = 0  # prompt tokens that were in the pages already
    drawn_tokens: int = 0
    preemptions: int = 0
    evictions: int = 0  # idle conversations that lost their pages


@dataclass(slots=True)
class Scheduler:
    pool: PagePool
    limits: Limits
    num_batches: int = 1
    store: PrefixStore = field(init=False)
    counts: Counts = field(default_factory=Counts)
    waiting: list[Sequence] = field(default_factory=list)  # by arrival
    running: list[Sequence] = field(default_factory=list)  # by arrival
    num_rows: int = field(init=False)  # row numbers are below this
    _rows: list[list[int]] = field(init=False)  # free row numbers, a batch's own each
    _copies: list[tuple[int, int]] = field(default_factory=list)
    _promised: dict[bytes, Sequence] = field(default_factory=dict)  # pages that a running sequence is about to fill
    _alone: list[Sequence] = field(default_factory=list)
    _first_limits: Limits = field(init=False)
    _calm_steps: int = 0  # since memory ran out
    _retried: Sequence | None = None  # alone in a small step that ran out of memory, the last thing that was tried

    def __post_init__(self) -> None:
        self.store = PrefixStore(self.pool)
        self._first_limits = self.limits
        size = -(-self.limits.max_running // self.num_batches)
        self.num_rows = size * self.num_batches
        self._rows = [list(reversed(range(size * batch, size * (batch + 1)))) for batch in range(self.num_batches)]

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """A new sequence, younger than all before it, that fits the pool."""
        self.waiting.append(sequence)

    def plan(self, batch: int = 0) -> Plan | None:
        """The batch's next step; None when nobody can take part in it (before the tokens of the last one are read)."""
        self._alone = [sequence for sequence in self._alone if sequence in self.running]
        if self._alone:
            members = self._alone[:1]
        else:
            while len(self.running) > self.limits.max_running:
                self._preempt(self.running[-1])
            self._grow()
            self._admit()
            members = self.running
        members = [sequence for sequence in members if sequence.batch == batch]
        ready = [s for s in members if s.num_pending and s.num_drawn < s.max_new_tokens]
        decode = [_row(s, 1) for s in ready if s.num_pending == 1]
        prefill = self._chunks([s for s in ready if s.num_pending > 1])
        decode += [row for row in prefill if row.count == 1]
        prefill = [row for row in prefill if row.count > 1]
        return Plan(decode, prefill, list(self._copies), batch) if decode or prefill else None

    def launched(self, plan: Plan) -> None:
        """The device will have done `plan` before anything that comes after it."""
        self.pool.give_back([source for source, _ in plan.copies])
        self._copies = self._copies[len(plan.copies) :]
        self.counts.steps += 1
        self._calm_steps += 1
        self._retried = None
        if self.limits != self._first_limits and self._calm_steps >= _CALM_STEPS:  # whatever took the memory has gone
            self.limits, self._calm_steps = self.limits.doubled(self._first_limits), 0
        for row in plan.rows:
            sequence = row.sequence
            self.counts.prefill_tokens += max(0, min(row.start + row.count, sequence.num_prompt) - row.start)
            self.counts.drawn_tokens += row.draws
            sequence.prefix.num_tokens += row.count
            sequence.num_unknown += row.draws
            self._publish(sequence)
        self._alone = [s for s in self._alone if all(row.sequence is not s for row in plan.rows)]

    def read(self, plan: Plan, tokens: Items[int]) -> list[Sequence]:
        """Give the `tokens` that `plan` drew to their sequences; returns those that end with them."""
        ended: list[Sequence] = []
        for row, token in zip(plan.drawing, tokens, strict=True):
            sequence = row.sequence
            if sequence.is_over:  # noticed one step late: what was drawn behind the end is nobody's
                continue
            sequence.read(token)
            if sequence.is_over:
                self._finish(sequence)
                ended.append(sequence)
        return ended

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence that nobody waits for any more, wherever it is."""
        sequence.is_dropped = True
        if sequence in self.running:
            self._stop(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def run_alone(self, plan: Plan) -> bool:
        """After a step that failed: plan its sequences one at a time, so that the next failure has one owner.

        False when `plan` has but one sequence, which is then the culprit.
        """
        if len(plan.rows) == 1:
            return False
        self._alone = [row.sequence for row in plan.rows]
        return True

    def shrink(self, plan: Plan) -> bool:
        """Smaller steps from now on, as `plan` ran out of memory; False when that cannot help.

        A step of a few tokens of one sequence says nothing of larger ones: it is tried once more, with the memory
        that has been released, and then it is that sequence which does not fit.
        """
        self._calm_steps = 0
        if len(plan.rows) == 1 and plan.rows[0].count <= _SMALLEST_CHUNK:
            tried, self._retried = self._retried, plan.rows[0].sequence
            return tried is not self._retried
        smaller = self.limits.halved()
        if smaller is not None:
            self.limits = smaller
        return smaller is not None

    def end_conversation(self, conversation_id: str) -> None:
        """Give its idle pages back, and keep none of its sequences that still run or wait."""
        self.store.end(conversation_id)
        for sequence in self.running + self.waiting:
            if sequence.request.conversation_id == conversation_id:
                sequence.is_kept = False

    def _grow(self) -> None:
        """A page for every running sequence whose next token needs one, the oldest first."""
        for sequence in list(self.running):
            if sequence.slot is None or sequence.num_drawn >= sequence.max_new_tokens:
                continue  # preempted for an older one, or done but for reading
            missing = self.pool.pages_for(sequence.length) - len(sequence.prefix.pages)
            while missing > self.pool.num_free and sequence.slot is not None:
                if not self._evict_one(spare=None):
                    self._preempt(self.running[-1])
            if sequence.slot is not None and missing > 0:
                sequence.prefix.pages += self.pool.take(missing)

    def _admit(self) -> None:
        """Let waiting sequences join, in order of arrival, as far as rows and pages go."""
        num_reading = sum(sequence.num_pending > 1 for sequence in self.running)
        most_reading = self.limits.max_prefill_rows * self.num_batches
        for sequence in list(self.waiting):
            if len(self.running) >= self.limits.max_running or num_reading >= most_reading:
                return
            if sequence.num_unknown:
                return  # preempted a moment ago: its last token has not been read yet
            extend_names(sequence.names, sequence.token_ids, self.pool.page_size)
            found = self.store.match(sequence.source_id, sequence.token_ids, sequence.names)
            next_page = found.num_tokens // self.pool.page_size
            if next_page < len(sequence.names) and sequence.names[next_page] in self._promised:
                continue  # a running sequence is about to fill the page that comes next here too
            room = self._make_room(sequence)
            if room is None:
                return
            self._join(sequence, room)
            num_reading += sequence.num_pending > 1

    def _make_room(self, sequence: Sequence) -> Prefix | None:
        """Evict idle conversations until `sequence` finds pages for all its tokens; None when that does not help.

        The result is what of its tokens is stored already. A page for each running sequence stays free, or
        the newcomer would soon be in the way of the others.
        """
        conversation_id = sequence.source_id
        while True:
            found = self.store.match(conversation_id, sequence.token_ids, sequence.names)
            needed = self.store.num_pages_to_take(found, sequence.length, is_branch=sequence.is_branch)
            needed += len(self.running)
            if needed <= self.pool.num_free:
                return found
            # With nothing running, the newcomer's own idle pages are the last that could stand in its way.
            if not self._evict_one(spare=conversation_id if self.running or len(self.store) > 1 else None):
                return None

    def _evict_one(self, spare: str | None) -> bool:
        """Take the pages of an idle conversation, of those that are wanted again the one that is wanted last."""
        wanted = [s.source_id for s in self.waiting if s.source_id is not None]
        has_evicted = self.store.evict_one(spare, wanted=wanted)
        self.counts.evictions += has_evicted
        return has_evicted

    def _join(self, sequence: Sequence, stored: Prefix) -> None:
        sequence.prefix, copy = self.store.claim(sequence.source_id, stored, is_branch=sequence.is_branch)
        if copy is not None:
            self._copies.append(copy)
        prefix = sequence.prefix
        prefix.pages += self.pool.take(self.pool.pages_for(sequence.length) - len(prefix.pages))
        self.counts.reused_tokens += min(prefix.num_tokens, sequence.num_prompt)
        for name in sequence.names[prefix.num_tokens // self.pool.page_size :]:
            self._promised.setdefault(name, sequence)
        sequence.batch = max(range(self.num_batches), key=lambda batch: len(self._rows[batch]))  # the smallest one
        sequence.slot = self._rows[sequence.batch].pop()
        sequence.has_begun = True
        self.waiting.remove(sequence)
        self.running.append(sequence)
        self.running.sort(key=lambda s: s.number)  # one that was preempted is older than others

    def _chunks(self, reading: list[Sequence]) -> list[StepRow]:
        """Prompt tokens for this step: half of them to the oldest, the rest to who can be done with the least.

        So a short prompt is read at once whatever stands before it, a long one moves on in every step, and
        conversations that asked at the same time do not go on in step with each other: some decode, which
        a GPU's memory limits, while others are read, which its arithmetic limits.
        """
        left = self.limits.max_prefill_tokens
        counts: dict[Sequence, int] = {}
        if reading:
            counts[reading[0]] = min(reading[0].num_pending, max(1, left // 2))
            left -= counts[reading[0]]
        for sequence in sorted(reading, key=lambda s: (s.num_pending, s.number)):
            if not left or (sequence not in counts and len(counts) == self.limits.max_prefill_rows):
                break
            already = counts.get(sequence, 0)
            more = min(sequence.num_pending - already, left)
            counts[sequence] = already + more
            left -= more
        return [_row(sequence, counts[sequence]) for sequence in reading if sequence in counts]

    def _publish(self, sequence: Sequence) -> None:
        if sequence.slot is None:
            return  # it has given its pages back since
        extend_names(sequence.names, sequence.token_ids, self.pool.page_size)
        first = sequence.prefix.num_named
        self.store.publish(sequence.prefix, sequence.names)
        for name in sequence.names[first : sequence.prefix.num_named]:
            self._promised.pop(name, None)

    def _preempt(self, sequence: Sequence) -> None:
        """Take its pages; it starts again, in its turn, with whatever of them can still be found then."""
        self.counts.preemptions += 1
        self._release(sequence)
        self.pool.give_back(sequence.prefix.pages)
        sequence.prefix = Prefix()
        self.waiting.append(sequence)
        self.waiting.sort(key=lambda s: s.number)

    def _finish(self, sequence: Sequence) -> None:
        """Its last token has been read, while it ran or after it was preempted."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self._stop(sequence)

    def _stop(self, sequence: Sequence) -> None:
        """Out of the running; its pages stay with its conversation or are given back."""
        self._release(sequence)
        conversation_id = sequence.request.conversation_id
        if sequence.is_kept and conversation_id is not None:
            stored = min(sequence.prefix.num_tokens, len(sequence.token_ids))
            sequence.prefix.num_tokens = stored
            self.store.publish(sequence.prefix, sequence.names)
            self.store.keep(conversation_id, sequence.token_ids[:stored], sequence.prefix)
        else:
            self.pool.give_back(sequence.prefix.pages)

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self.running.remove(sequence)
        self._rows[sequence.batch].append(sequence.slot)
        sequence.slot = None
        mine = [copy for copy in self._copies if copy[1] in sequence.prefix.pages]
        if mine:  # none of its steps was launched: what its last page was to hold never came to be
            self._copies = [copy for copy in self._copies if copy not in mine]
            self.pool.give_back([source for source, _ in mine])
            sequence.prefix.num_tokens -= sequence.prefix.num_tokens % self.pool.page_size
        for name in [name for name, owner in self._promised.items() if owner is sequence]:
            del self._promised[name]


def _row(sequence: Sequence, count: int) -> StepRow:
    return StepRow(sequence, sequence.prefix.num_tokens, count, count == sequence.num_pending)
