"""Draws the next token of each row of a step, where the output embedding lies.

Every row is drawn greedily first, which a step's graph does by itself. Rows that are sampled or held to a
constraint are then drawn once more, from the same logits. The tokens stay on the device, one for each slot: the
next step reads them there, and the host copies them while that step is on its way.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.engine.constraint import Constraint, TokenTrie
from evaluation.toolbench.inference.engine.device import to_device
from evaluation.toolbench.inference.engine.device_constraint import (
    Group,
    allowed_ids,
    allowed_tokens,
    step_nodes,
)
from evaluation.toolbench.inference.engine.paged.execution.output_head import OutputHead
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepArrays
from evaluation.toolbench.inference.engine.sampling import SamplingRows, penalize, sample
from evaluation.toolbench.inference.engine.scoring import best_tokens


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """Counts rows, one after another, that are scored within the same constraint: all at a trie's root, or none."""

    constraint: Constraint | None
    at_root: bool
    count: int


@dataclass(frozen=True, slots=True)
class Draws:
    """Holds what the host knows of the tokens that a step draws; the rest is in the step's arrays.

    The special rows are those that are not simply greedy: sampled, constrained or penalised ones, in the order of
    `groups`, then those that are to be scored, in the order of `scored`.
    """

    slots: list[int]  # of all rows that draw, in the order of the tokens
    groups: tuple[Group, ...] = ()  # the constraints of the special rows that are not scored
    special: tuple[int, ...] = ()  # which of all draws the special rows are
    num_sampled: int = 0  # of the special rows
    is_filtered: bool = False  # some sampled row uses top_k or top_p
    is_penalized: bool = False  # some special row has a repetition penalty
    histories: tuple[tuple[int, list[int]], ...] = ()  # slots of such rows, with all ids where the host knows them
    scored: tuple[ScoredGroup, ...] = ()
    num_best: int = 0  # the most tokens that one of those wants

    @property
    def num_scored(self) -> int:
        return sum(group.count for group in self.scored)


class TokenDrawer:
    """Owns the last token of each slot and its place in a trie: (num_slots + 1,) int64 each, slot 0 for padding."""

    def __init__(self, head: OutputHead, num_slots: int) -> None:
        self.head = head
        self.tokens = torch.zeros(num_slots + 1, dtype=torch.int64, device=head.device)
        self._nodes = torch.full_like(self.tokens, TokenTrie.ROOT)
        self._seen: torch.Tensor | None = None  # (num_slots + 1, vocab_size) bool: the ids of each slot's sequence
        self._drawn = torch.zeros(head.max_rows, dtype=torch.int64, device=head.device)

    def draw_greedily(self, hidden: torch.Tensor, arrays: StepArrays[torch.Tensor]) -> None:
        """Draw from `hidden` (R, hidden size), the first R rows of `arrays.logit_tokens`.

        Launches depend on R alone. Where there are special rows `arrays.kept_slots` are zeros and no token is kept
        yet: should drawing those fail, the step can be computed again.
        """
        count = len(hidden)
        drawn = torch.argmax(self.head.compute(hidden), dim=-1, out=self._drawn[:count])
        self.tokens.index_copy_(0, arrays.kept_slots[:count].long(), drawn)

    def draw_special(self, draws: Draws, arrays: StepArrays[torch.Tensor]) -> torch.Tensor | None:
        """Draw the special rows anew, after `draw_greedily` of the same step, and keep the tokens of all.

        Return the scores of those that are scored, see `best_tokens`; their token is the best one.
        """
        count, num_drawn, vocab_size = len(draws.special), len(draws.slots), self.head.vocab_size
        num_scored = draws.num_scored
        slots = arrays.draw_slots[:num_drawn].long()
        rows = arrays.special[:count].long()
        special_slots = slots[rows]
        nodes = arrays.nodes[:count].long()
        logits = self.head.logits(num_drawn)[rows]
        seen = self._seen_ids(draws.histories) if draws.is_penalized else None
        penalty = arrays.penalty[:count].view(torch.float32)
        seen_here = None if seen is None else seen[special_slots]
        drawn = slice(count - num_scored)
        parts = []
        if count > num_scored:
            parts.append(
                self._draw_groups(draws, arrays, logits[drawn], nodes[drawn], special_slots[drawn], seen_here, penalty)
            )
        scores = None
        if num_scored:
            scores = self._score_groups(draws, logits, nodes, seen_here, penalty)
            parts.append(scores[:, 0, 0].clamp(max=vocab_size - 1))  # beyond it where nothing has a probability
        tokens = torch.cat(parts)
        if seen is not None:
            seen.view(-1).index_fill_(
                0, special_slots * vocab_size + tokens, True
            )  # an assignment would wait for the GPU
        self._drawn.index_copy_(0, rows, tokens)
        self.tokens.index_copy_(0, slots, self._drawn[:num_drawn])
        return scores

    def _draw_groups(
        self,
        draws: Draws,
        arrays: StepArrays[torch.Tensor],
        logits: torch.Tensor,
        nodes: torch.Tensor,
        slots: torch.Tensor,
        seen: torch.Tensor | None,
        penalty: torch.Tensor,
    ) -> torch.Tensor:
        """Draw the special rows that are not scored, which are the first ones."""
        count, vocab_size = len(logits), self.head.vocab_size
        has_trie = any(isinstance(constraint, TokenTrie) for constraint, _ in draws.groups)
        if has_trie:
            nodes = torch.where(nodes >= 0, nodes, self._nodes[slots])
        allowed = allowed_tokens(draws.groups, nodes, vocab_size)
        if seen is not None:
            logits = penalize(logits, seen[:count], penalty[:count])
        positions = arrays.draw_positions[arrays.special[:count].long()].long()
        tokens = sample(logits, _sampling_of(draws, arrays), positions, allowed)
        if has_trie:
            self._nodes.index_copy_(0, slots, step_nodes(draws.groups, nodes, tokens, vocab_size))
        return tokens

    def _score_groups(
        self,
        draws: Draws,
        logits: torch.Tensor,
        nodes: torch.Tensor,
        seen: torch.Tensor | None,
        penalty: torch.Tensor,
    ) -> torch.Tensor:
        """Score the special rows that are to be, which are the last ones: (num_scored, 2, num_best)."""
        scores, start = [], len(draws.special) - draws.num_scored
        for group in draws.scored:
            here = slice(start, start + group.count)
            ids = allowed_ids(group.constraint, nodes[here], self.head.vocab_size, at_root=group.at_root)
            seen_here = None if seen is None else seen[here]
            scores.append(best_tokens(logits[here], ids, draws.num_best, seen_here, penalty[here]))
            start += group.count
        return torch.cat(scores)

    def _seen_ids(self, histories: Items[tuple[int, list[int]]]) -> torch.Tensor:
        """Return the ids of each slot's sequence, for those with a penalty: from the host if it knows the last."""
        if self._seen is None:
            size = (len(self.tokens), self.head.vocab_size)
            self._seen = torch.zeros(size, dtype=torch.bool, device=self.head.device)
        for slot, token_ids in histories:
            self._seen[slot].zero_().index_fill_(0, to_device(token_ids, torch.int64, self.head.device), True)
        return self._seen


def _sampling_of(draws: Draws, arrays: StepArrays[torch.Tensor]) -> SamplingRows:
    """Return how the special rows are sampled, all from the step's own arrays."""
    count = draws.num_sampled
    return SamplingRows(
        drawn=arrays.sampled[:count].long() if count else None,
        temperature=arrays.temperature[:count].view(torch.float32),
        top_k=arrays.top_k[:count].long(),
        top_p=arrays.top_p[:count].view(torch.float32),
        seed=arrays.seed[: 2 * count].view(torch.int64),
        is_filtered=draws.is_filtered,
    )
