"""Decides which sequences take part in the next step, with how many tokens, and on which pages.

Pure bookkeeping: no tensors, no threads, no clock. The caller alternates

    plan = scheduler.plan()          # decides, takes pages
    ... run it ...
    scheduler.note_launch(plan)      # the step is on its way: its keys and values count as stored
    scheduler.take_tokens(plan, tokens)    # those that it drew

and may plan and launch the next step before it takes the tokens of the last one. Where several devices
share the model, the running sequences are divided over several batches, and each has a step of its own
on its way: `plan(batch)`. A plan that could not be launched is simply forgotten: what it took stays with
the sequences, and the next plan repeats the work.

Order of arrival is the order of service. A sequence joins when its whole prompt has pages; for those it
waits a while rather than take them from a conversation that has just answered and will be back, and is
overtaken by those that have theirs. When a running one needs a page and none is free, idle conversations
lose theirs first (the longest idle one before others), then the youngest running sequence, which starts
again later. So the oldest sequence always moves on, and since any one sequence fits the pool alone, every
sequence ends.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from evaluation.toolbench.inference.engine.paged.limits import SMALLEST_CHUNK, Limits
from evaluation.toolbench.inference.engine.paged.pages import PagePool, extend_names
from evaluation.toolbench.inference.engine.paged.plan import Plan, StepRow
from evaluation.toolbench.inference.engine.paged.prefix import Prefix, PrefixStore
from evaluation.toolbench.inference.engine.paged.sequence import Sequence

_PATIENCE = 64  # steps of each batch that a sequence waits before it takes pages of those that have just answered
_CALM_STEPS = 1000  # without an out-of-memory error, after which steps may be twice as large again
_TOKENS_LIKE_ONE = 40  # stored tokens whose reading costs what reading one new prompt token does; see `_load`


@dataclass(slots=True)
class Counts:
    """Counts what a scheduler has done; tokens count when their step is launched, but for the generated ones."""

    steps: int = 0
    prefill_tokens: int = 0  # prompt tokens read by the model, those read again after a preemption included
    reused_tokens: int = 0  # prompt tokens that were in the pages already
    drawn_tokens: int = 0
    generated_tokens: int = 0  # taken by the host: those that are part of a result, or will be
    preemptions: int = 0
    repeated_preemptions: int = 0  # of sequences that had drawn nothing since the one before
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
    slots_per_batch: int = field(init=False)  # batch b has those from 1 + b * slots_per_batch on; 0 is nobody's
    _free_slots: list[list[int]] = field(init=False)  # of each batch
    _copies: list[tuple[int, int]] = field(default_factory=list)
    _promised: dict[bytes, Sequence] = field(default_factory=dict)  # pages that a running sequence is about to fill
    _alone: list[Sequence] = field(default_factory=list)
    _first_limits: Limits = field(init=False)
    _calm_steps: int = 0  # since memory ran out
    _retried: Sequence | None = None  # alone in a small step that ran out of memory, the last thing that was tried

    def __post_init__(self) -> None:
        self.store = PrefixStore(self.pool)
        self._first_limits = self.limits
        size = self.slots_per_batch = -(-self.limits.max_running // self.num_batches)
        firsts = range(1, 1 + self.num_slots, size)
        self._free_slots = [list(reversed(range(first, first + size))) for first in firsts]

    @property
    def num_slots(self) -> int:
        """Return the number of slots, which are numbered from 1 to this."""
        return self.slots_per_batch * self.num_batches

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Take in a new sequence, younger than all before it, that fits the pool."""
        sequence.asked_at = self.counts.steps
        self.waiting.append(sequence)

    def plan(self, batch: int = 0) -> Plan | None:
        """Plan the batch's next step; None when no sequence can run until the last step's tokens have been taken."""
        self._alone = [sequence for sequence in self._alone if sequence in self.running]
        if self._alone:
            members = self._alone[:1]
        else:
            while len(self.running) > self.limits.max_running:
                self._preempt(self.running[-1])
            self._grow()
            self._admit()
            members = self.running
        decode: list[StepRow] = []
        reading: list[Sequence] = []
        for s in members:  # for each of them in every step: nothing is looked up twice
            if s.batch == batch and s.length - s.num_prompt < s.max_new_tokens:
                start = s.prefix.num_tokens
                num_pending = s.length - start
                if num_pending == 1:
                    decode.append(StepRow(s, start, 1, True))
                elif num_pending:
                    reading.append(s)
        prefill = self._chunks(reading, len(decode)) if reading else []
        decode += [row for row in prefill if row.count == 1]
        prefill = [row for row in prefill if row.count > 1]
        return Plan(decode, prefill, list(self._copies), batch) if decode or prefill else None

    def note_launch(self, plan: Plan) -> None:
        """Note that the device will have done `plan` before anything that comes after it."""
        self.pool.give_back([source for source, _ in plan.copies])
        self._copies = self._copies[len(plan.copies) :]
        self.counts.steps += 1
        self.counts.drawn_tokens += len(plan.drawing)
        self._calm_steps += 1
        self._retried = None
        if self.limits != self._first_limits and self._calm_steps >= _CALM_STEPS:  # whatever took the memory has gone
            self.limits, self._calm_steps = self.limits.doubled(self._first_limits), 0
        page_size = self.pool.page_size
        for row in plan.rows:
            sequence = row.sequence
            prefix = sequence.prefix
            prefix.num_tokens += row.count
            if row.draws:
                sequence.num_unknown += 1
                sequence.length += 1
            if row.start < sequence.num_prompt:
                self.counts.prefill_tokens += min(prefix.num_tokens, sequence.num_prompt) - row.start
            if prefix.num_tokens >= (prefix.num_named + 1) * page_size:
                self._publish(sequence)
        if self._alone:
            launched = {row.sequence for row in plan.rows}
            self._alone = [s for s in self._alone if s not in launched]

    def take_tokens(self, plan: Plan, tokens: Items[int]) -> list[Sequence]:
        """Give the `tokens` that `plan` drew to their sequences; returns those that end with them."""
        ended: list[Sequence] = []
        for row, token in zip(plan.drawing, tokens, strict=True):
            sequence = row.sequence
            if sequence.is_over:  # the end was noticed one step late: discard the extra token
                continue
            self.counts.generated_tokens += not sequence.num_best  # scores make no tokens
            if sequence.add_token(token):
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
        """Plan, after a step that failed, its sequences one at a time, so that the next failure has one owner.

        False when `plan` has but one sequence, which is then the culprit.
        """
        if len(plan.rows) == 1:
            return False
        self._alone = [row.sequence for row in plan.rows]
        return True

    def shrink(self, plan: Plan) -> bool:
        """Make smaller steps from now on, as `plan` ran out of memory; False when that cannot help.

        A step of a few tokens of one sequence says nothing of larger ones: it is tried once more, with the memory
        that has been released, and then it is that sequence which does not fit.
        """
        self._calm_steps = 0
        if len(plan.rows) == 1 and plan.rows[0].count <= SMALLEST_CHUNK:
            sequence = plan.rows[0].sequence
            is_first_try = sequence is not self._retried
            self._retried = sequence
            return is_first_try
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
        """Take a page for every running sequence whose next token needs one, the oldest first."""
        page_size = self.pool.page_size
        in_need = [s for s in self.running if s.length > len(s.prefix.pages) * page_size]
        for sequence in in_need:
            if sequence.slot is None or sequence.num_drawn >= sequence.max_new_tokens:
                continue  # preempted for an older one, or done but for its last token
            missing = self.pool.pages_for(sequence.length) - len(sequence.prefix.pages)
            while missing > self.pool.num_free and sequence.slot is not None:
                if not self._evict_one(spare=None):
                    self._preempt(self.running[-1])
            if sequence.slot is not None:
                sequence.prefix.pages += self.pool.take(missing)

    def _admit(self) -> None:
        """Let waiting sequences join, in order of arrival, as far as slots and pages go."""
        if not self.waiting or len(self.running) >= self.limits.max_running:
            return
        num_reading = sum(sequence.num_pending > 1 for sequence in self.running)
        most_reading = self.limits.max_prefill_rows * self.num_batches
        is_overtaken = False  # somebody older waits for pages
        for sequence in list(self.waiting):
            if len(self.running) >= self.limits.max_running or num_reading >= most_reading:
                return
            if sequence.num_unknown:
                return  # preempted a moment ago: its last token has not been taken yet
            if is_overtaken and not self.store.holds(sequence.source_id):
                continue  # it would take pages that an older one waits for
            extend_names(sequence.names, sequence.token_ids, self.pool.page_size)
            found = self.store.match(sequence.source_id, sequence.token_ids, sequence.names)
            next_page = found.num_tokens // self.pool.page_size
            if next_page < len(sequence.names) and sequence.names[next_page] in self._promised:
                continue  # a running sequence is about to fill the page that comes next here too
            room = self._make_room(sequence, found)
            if room is None:
                if not self._is_patient(sequence):
                    return
                is_overtaken = True
                continue
            self._join(sequence, room)
            num_reading += sequence.num_pending > 1

    def _make_room(self, sequence: Sequence, found: Prefix) -> Prefix | None:
        """Evict idle conversations until `sequence` finds pages for all its tokens; None when that does not help.

        `found` is what of its tokens is stored already, and the result what is left of that. A page for each running
        sequence stays free, or the newcomer would soon be in the way of the others.
        """
        conversation_id = sequence.source_id
        while True:
            needed = self.store.num_pages_to_take(found, sequence.length, is_branch=sequence.is_branch)
            needed += len(self.running)
            if needed <= self.pool.num_free:
                return found
            # With nothing running, the newcomer's own idle pages are the last that could stand in its way.
            spare = conversation_id if self.running or len(self.store) > 1 else None
            before = self.counts.steps - self._patience if self._is_patient(sequence) else None
            if not self._evict_one(spare, before=before):
                return None
            found = self.store.match(conversation_id, sequence.token_ids, sequence.names)

    @property
    def _patience(self) -> int:
        return _PATIENCE * self.num_batches

    def _is_patient(self, sequence: Sequence) -> bool:
        """Return whether `sequence` is to wait for pages: not for long, and not while the devices could do more work.

        Who loses its pages reads thousands of tokens again and needs as many pages as before, for which the next one
        would have to go, and so on through all conversations.
        """
        return self.counts.steps - sequence.asked_at < self._patience and len(self.running) > len(self.store)

    def _evict_one(self, spare: str | None, *, before: int | None = None) -> bool:
        """Take the pages of an idle conversation, of those that are wanted again the one that is wanted last.

        With `before`, of one that nobody wants yet and that has been idle since an earlier step.
        """
        wanted = [s.source_id for s in self.waiting if s.source_id is not None]
        has_evicted = self.store.evict_one(spare, wanted=wanted, before=before)
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
        sequence.batch = self._lightest_batch()
        sequence.slot = self._free_slots[sequence.batch].pop()
        sequence.has_begun = True
        self.waiting.remove(sequence)
        insort(self.running, sequence, key=lambda s: s.number)  # one that was preempted is older than others

    def _lightest_batch(self) -> int:
        """Return the batch whose next steps will take the least time, of those with a free slot."""
        if self.num_batches == 1:
            return 0
        loads = [0] * self.num_batches
        for sequence in self.running:
            loads[sequence.batch] += _load(sequence)
        return min((batch for batch, slots in enumerate(self._free_slots) if slots), key=lambda batch: loads[batch])

    def _chunks(self, reading: list[Sequence], num_decoding: int) -> list[StepRow]:
        """Choose the prompt tokens of this step: half to the oldest, the rest to who can be done with the least.

        So a short prompt is read at once whatever stands before it, a long one moves on in every step, and
        conversations that asked at the same time do not go on in step with each other: some decode, which
        a GPU's memory limits, while others are read, which its arithmetic limits.
        """
        left = self.limits.prompt_tokens(len(self.running), self.num_batches, num_decoding)
        counts: dict[Sequence, int] = {}
        counts[reading[0]] = min(reading[0].num_pending, max(1, left // 2))
        left -= counts[reading[0]]
        for sequence in sorted(reading, key=lambda s: (s.num_pending, s.number)):
            if not left or (sequence not in counts and len(counts) == self.limits.max_prefill_rows):
                break
            already = counts.get(sequence, 0)
            more = min(sequence.num_pending - already, left)
            counts[sequence] = already + more
            left -= more
        return [StepRow(s, s.prefix.num_tokens, counts[s], counts[s] == s.num_pending) for s in reading if s in counts]

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
        self.counts.repeated_preemptions += sequence.drawn_at_preemption == sequence.num_drawn
        sequence.drawn_at_preemption = sequence.num_drawn
        self._release(sequence)
        self.pool.give_back(sequence.prefix.pages)
        sequence.prefix = Prefix()
        self.waiting.append(sequence)
        self.waiting.sort(key=lambda s: s.number)

    def _finish(self, sequence: Sequence) -> None:
        """Note that its last token has been taken, while it ran or after it was preempted."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self._stop(sequence)

    def _stop(self, sequence: Sequence) -> None:
        """Take it out of the running; its pages stay with its conversation or are given back."""
        self._release(sequence)
        conversation_id = sequence.request.conversation_id
        if sequence.is_kept and conversation_id is not None:
            stored = min(sequence.prefix.num_tokens, len(sequence.token_ids))
            sequence.prefix.num_tokens = stored
            self.store.publish(sequence.prefix, sequence.names)
            self.store.keep(conversation_id, sequence.token_ids[:stored], sequence.prefix, now=self.counts.steps)
        else:
            self.pool.give_back(sequence.prefix.pages)

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self.running.remove(sequence)
        self._free_slots[sequence.batch].append(sequence.slot)
        sequence.slot = None
        mine = [copy for copy in self._copies if copy[1] in sequence.prefix.pages]
        if mine:  # none of its steps was launched: what its last page was to hold never came to be
            self._copies = [copy for copy in self._copies if copy not in mine]
            self.pool.give_back([source for source, _ in mine])
            sequence.prefix.num_tokens -= sequence.prefix.num_tokens % self.pool.page_size
        if self._promised:
            self._promised = {name: owner for name, owner in self._promised.items() if owner is not sequence}


def _load(sequence: Sequence) -> int:
    """Return what a running sequence adds to its batch's next steps, in prompt tokens still to be read.

    Of an 8B model a prompt token is 14 GFLOP, 20 us of an H200, and a stored token 131 KB, 0.03 us in every step that
    decodes behind it, of which about 16 are looked ahead: as much as the prompt of a conversation's next turn takes.
    """
    return sequence.num_pending + sequence.length // _TOKENS_LIKE_ONE
