"""A device in plain Python for the scheduler: it stores what was read in pages, and checks all that is read back."""

from __future__ import annotations

import hashlib
from collections import Counter

from evaluation.toolbench.inference.engine.paged.plan import Plan
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence


def next_token(token_ids: list[int], vocab_size: int) -> int:
    """What the pretended model says after `token_ids`."""
    digest = hashlib.blake2b(repr(token_ids).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % vocab_size


class PretendDevice:
    """Each slot of a page holds all tokens up to it, as the keys and values of a model depend on all of them."""

    def __init__(self, scheduler: Scheduler, vocab_size: int) -> None:
        self._pool = scheduler.pool
        self._vocab_size = vocab_size
        self._slots: dict[tuple[int, int], tuple[int, ...]] = {}
        self._drawn: dict[Sequence, int] = {}  # tokens that the host may not have read yet

    def run(self, plan: Plan) -> list[int]:
        """The tokens that `plan` draws; AssertionError where the pages do not hold what a row builds on."""
        size = self._pool.page_size
        for source, target in plan.copies:
            for offset in range(size):
                self._slots[target, offset] = self._slots.get((source, offset), ())
        writes = [(row.sequence.prefix.pages[p // size], p % size) for row in plan.rows for p in _positions(row)]
        assert len(writes) == len(set(writes)), "two tokens of a step in one slot"
        drawn = []
        for row in plan.rows:
            sequence = row.sequence
            known = list(sequence.token_ids)
            if sequence.num_unknown:
                known.append(self._drawn[sequence])
            for position in _positions(row):
                slot = (sequence.prefix.pages[position // size], position % size)
                self._slots[slot] = tuple(known[: position + 1])
        for row in plan.rows:
            sequence = row.sequence
            known = list(sequence.token_ids) + ([self._drawn[sequence]] if sequence.num_unknown else [])
            stop = row.start + row.count
            for position in range(stop):
                slot = (sequence.prefix.pages[position // size], position % size)
                assert self._slots[slot] == tuple(known[: position + 1]), "a page does not hold what its owner read"
            if row.draws:
                assert stop == len(known)
                drawn.append(next_token(known, self._vocab_size))
        for row, token in zip(plan.drawing, drawn, strict=True):
            self._drawn[row.sequence] = token
        return drawn


def assert_pages_add_up(scheduler: Scheduler) -> None:
    """Every page is free, or held by exactly those that list it; nobody else may write a page that is being written."""
    pool = scheduler.pool
    held = Counter(page for s in scheduler.running for page in s.prefix.pages)
    held += Counter(page for idle in scheduler.store._idle.values() for page in idle.prefix.pages)
    held += Counter(source for source, _ in scheduler._copies)
    assert {page: count for page, count in enumerate(pool._holders) if count} == dict(held)
    assert pool.num_free == pool.num_pages - len(held)
    for sequence in scheduler.running:
        first_written = sequence.prefix.num_tokens // pool.page_size
        assert all(held[page] == 1 for page in sequence.prefix.pages[first_written:]), "a shared page is written"
    slots = [s.slot for s in scheduler.running]
    assert len(slots) == len(set(slots))
    per_batch = scheduler.slots_per_batch
    assert all(0 <= s.slot - 1 - s.batch * per_batch < per_batch for s in scheduler.running)


def _positions(row) -> range:
    return range(row.start, row.start + row.count)
