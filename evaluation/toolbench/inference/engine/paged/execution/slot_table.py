"""Keeps what the host knows of each slot from step to step, and writes a step's inputs from it.

A sequence has a slot while it runs; slot 0 is nobody's, so that zeros are padding. What does not change in that time
(how it is sampled, its pages so far) is written once; a step gathers it by slot, for all rows at a time.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np

from evaluation.toolbench.inference.engine.constraint import Constraint, TokenTrie
from evaluation.toolbench.inference.engine.device_constraint import Group
from evaluation.toolbench.inference.engine.paged.execution.drawing import Draws, ScoredGroup
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import Ints, StepArrays, StepBuffers
from evaluation.toolbench.inference.engine.paged.plan import Plan, StepRow
from evaluation.toolbench.inference.engine.paged.prefix import Prefix
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.sampling import signed_64


class SlotTable:
    """Keeps slots 1 to `num_slots`, of sequences of at most `table_width` pages of `page_size` tokens."""

    def __init__(self, num_slots: int, table_width: int, page_size: int) -> None:
        self._page_size = page_size
        num_slots += 1
        self._pages = np.zeros((num_slots, table_width), dtype=np.int32)
        self._num_pages = [0] * num_slots  # that are written in `_pages`
        self._holders: list[Prefix | None] = [None] * num_slots  # whose pages they are: a new one at every start
        self._num_prompt = np.zeros(num_slots, dtype=np.int32)
        self._is_special = np.zeros(num_slots, dtype=bool)
        self._penalty = np.ones(num_slots, dtype=np.float32)
        self._temperature = np.zeros(num_slots, dtype=np.float32)
        self._top_k = np.zeros(num_slots, dtype=np.int32)
        self._top_p = np.zeros(num_slots, dtype=np.float32)
        self._seed = np.zeros(num_slots, dtype=np.int64)

    def fill(self, plan: Plan, layout: StepBuffers, buffer: Ints) -> Draws:
        """Write the inputs of `plan` to `buffer`, `layout.size` long; returns what it draws."""
        arrays = layout.views(buffer)
        buffer[: layout.tables_start] = 0
        arrays.kv_slots[:] = -1
        slots = self._fill_decode(plan.decode, arrays) if plan.decode else []
        rows = list(range(len(slots)))
        last_tokens = list(rows)  # where the last token of each row lies in the step
        if plan.prefill:
            first = layout.shape.decode_rows
            ends = self._fill_prefill(plan.prefill, first, arrays)
            slots += [row.sequence.running_slot for row in plan.prefill]
            rows += range(first, first + len(ends))
            last_tokens += [end - 1 for end in ends]
        drawing = plan.drawing
        if len(drawing) < len(slots):
            chosen = [index for index, row in enumerate(plan.rows) if row.draws]
            slots = [slots[index] for index in chosen]
            rows = [rows[index] for index in chosen]
            last_tokens = [last_tokens[index] for index in chosen]
        if not drawing:
            return Draws(slots)
        arrays.draw_rows[: len(rows)] = rows
        return self._fill_draws(drawing, slots, last_tokens, arrays)

    def _fill_decode(self, rows: Items[StepRow], arrays: StepArrays[Ints]) -> list[int]:
        """Fill the rows of one token, in most steps nearly all: little is done for each by itself. Returns their
        slots.
        """
        slots, positions, ids = [], [], []
        for row in rows:
            start, token_ids = row.start, row.sequence.token_ids
            slots.append(self._slot_of(row.sequence))
            positions.append(start)
            ids.append(token_ids[start] if start < len(token_ids) else -1)
        count = len(rows)
        at = np.array(slots)
        known = np.array(ids, dtype=np.int32)
        position = np.array(positions, dtype=np.int32)
        arrays.ids[:count] = np.maximum(known, 0)
        arrays.token_slots[:count] = np.where(known < 0, at, 0)
        arrays.positions[:count] = position
        page, offset = np.divmod(position, np.int32(self._page_size))
        arrays.kv_slots[:count] = self._pages[at, page] * np.int32(self._page_size) + offset
        arrays.contexts[:count] = position + 1
        arrays.tables[:count] = self._pages[at, : arrays.tables.shape[1]]
        return slots

    def _fill_prefill(self, rows: Items[StepRow], decode_rows: int, arrays: StepArrays[Ints]) -> list[int]:
        """Fill the rows of several tokens, behind all decode rows; returns where each ends."""
        ends = []
        first = decode_rows
        width = arrays.tables.shape[1]
        for index, row in enumerate(rows):
            slot = self._slot_of(row.sequence)
            start, stop, end = row.start, row.start + row.count, first + row.count
            known = row.sequence.token_ids[start:stop]
            arrays.ids[first : first + len(known)] = known
            if len(known) < row.count:  # only the newest token can be on the device alone
                arrays.token_slots[end - 1] = slot
            position = np.arange(start, stop, dtype=np.int32)
            arrays.positions[first:end] = position
            page, offset = np.divmod(position, np.int32(self._page_size))
            arrays.kv_slots[first:end] = self._pages[slot, page] * np.int32(self._page_size) + offset
            arrays.contexts[decode_rows + index] = stop
            arrays.tables[decode_rows + index] = self._pages[slot, :width]
            arrays.starts[index + 1] = end - decode_rows
            ends.append(end)
            first = end
        arrays.starts[len(rows) + 1 :] = first - decode_rows
        return ends

    def _fill_draws(
        self, drawing: Items[StepRow], slots: list[int], last_tokens: list[int], arrays: StepArrays[Ints]
    ) -> Draws:
        at = np.array(slots)
        count = len(slots)
        arrays.logit_tokens[:count] = last_tokens
        arrays.draw_slots[:count] = at
        arrays.draw_positions[:count] = arrays.positions[last_tokens] + 1 - self._num_prompt[at]
        [special] = self._is_special[at].nonzero()
        if len(special):
            return self._fill_special(drawing, slots, special.tolist(), arrays)
        arrays.kept_slots[:count] = at
        return Draws(slots)

    def _fill_special(
        self, drawing: Items[StepRow], slots: list[int], special: Items[int], arrays: StepArrays[Ints]
    ) -> Draws:
        """Fill in the draws `special`: first those that are not scored, each kind sorted by its constraints."""
        by_constraint: dict[Constraint | None, list[int]] = {}
        by_place: dict[tuple[Constraint | None, bool], list[int]] = {}  # of the scored
        for index in special:
            sequence = drawing[index].sequence
            constraint, scoring = sequence.request.constraint, sequence.scoring
            if scoring is None:
                by_constraint.setdefault(constraint, []).append(index)
            else:
                by_place.setdefault((constraint, scoring.node == TokenTrie.ROOT), []).append(index)
        groups: list[Group] = [(constraint, len(indices)) for constraint, indices in by_constraint.items()]
        scored = [ScoredGroup(*place, len(indices)) for place, indices in by_place.items()]
        order = [index for indices in (*by_constraint.values(), *by_place.values()) for index in indices]
        sequences = [drawing[index].sequence for index in order]
        arrays.special[: len(order)] = order
        arrays.nodes[: len(order)] = [-1 if s.has_trie and s.num_unknown else s.walk.node for s in sequences]
        at = np.array(slots)[order]
        penalty = self._penalty[at]
        arrays.penalty[: len(order)] = penalty.view(np.int32)
        penalized = [sequences[index] for index in (penalty != 1).nonzero()[0].tolist()]
        [sampled] = self._temperature[at].nonzero()
        at, count = at[sampled], len(sampled)
        arrays.sampled[:count] = sampled
        arrays.temperature[:count] = self._temperature[at].view(np.int32)
        arrays.top_k[:count] = self._top_k[at]
        arrays.top_p[:count] = self._top_p[at].view(np.int32)
        arrays.seed[: 2 * count] = self._seed[at].view(np.int32)
        is_filtered = bool((self._top_k[at] > 0).any() or (self._top_p[at] < 1).any())
        num_best = max(sequence.num_best for sequence in sequences)
        return Draws(
            slots,
            tuple(groups),
            tuple(order),
            count,
            is_filtered,
            is_penalized=bool(penalized),
            histories=tuple((s.running_slot, s.token_ids) for s in penalized if not s.num_unknown),
            scored=tuple(scored),
            num_best=num_best,
        )

    def _slot_of(self, sequence: Sequence) -> int:
        """Return the slot of a running sequence, after noting what is new of it."""
        slot = sequence.running_slot
        prefix = sequence.prefix
        if self._holders[slot] is not prefix:
            self._begin(slot, sequence)
        if self._num_pages[slot] < len(prefix.pages):
            new = prefix.pages[self._num_pages[slot] :]
            self._pages[slot, self._num_pages[slot] : len(prefix.pages)] = new
            self._num_pages[slot] = len(prefix.pages)
        return slot

    def _begin(self, slot: int, sequence: Sequence) -> None:
        self._holders[slot], self._num_pages[slot] = sequence.prefix, 0
        sampling = sequence.request.sampling
        self._num_prompt[slot] = sequence.num_prompt
        is_greedy = not sampling.temperature and sampling.repetition_penalty == 1
        self._is_special[slot] = not is_greedy or sequence.request.constraint is not None or sequence.num_best > 0
        self._penalty[slot] = sampling.repetition_penalty
        self._temperature[slot] = sampling.temperature
        self._top_k[slot] = min(sampling.top_k, np.iinfo(np.int32).max)  # more ids than any vocabulary has
        self._top_p[slot] = sampling.top_p
        self._seed[slot] = signed_64(sampling.seed)
