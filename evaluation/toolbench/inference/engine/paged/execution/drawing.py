"""The next token of each row of a step, where the output embedding lies.

Every row is drawn greedily first, which a step's graph does by itself. Rows that are sampled or held to a
constraint are then drawn once more, from the same logits. The tokens stay on the device, one for each slot: the
next step reads them there, and the host copies them while that step is on its way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.device_constraint import Group, allowed_tokens, step_nodes
from evaluation.toolbench.inference.engine.paged.execution.output_head import OutputHead
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepArrays
from evaluation.toolbench.inference.engine.sampling import SamplingRows, sample
from evaluation.toolbench.inference.engine.scoring import best_tokens


@dataclass(frozen=True, slots=True)
class Draws:
    """What the host knows of the tokens that a step draws; the rest is in the step's arrays.

    The special rows are those that are not simply greedy: sampled, constrained, or to be scored. They come in the
    order of `groups`.
    """

    slots: list[int]  # of all rows that draw, in the order of the tokens
    groups: tuple[Group, ...] = ()  # the constraints of the special rows
    special: tuple[int, ...] = ()  # which of all draws the special rows are
    num_sampled: int = 0  # of the special rows
    is_filtered: bool = False  # some sampled row uses top_k or top_p
    num_best: int = 0  # the most tokens that a special row has to score; those that are simply greedy score none


class TokenDrawer:
    """Owns the last token of each slot and its place in a trie: (num_slots + 1,) int64 each, slot 0 for padding."""

    def __init__(self, head: OutputHead, num_slots: int) -> None:
        self.head = head
        self.tokens = torch.zeros(num_slots + 1, dtype=torch.int64, device=head.device)
        self._nodes = torch.full_like(self.tokens, TokenTrie.ROOT)
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

        The special rows' scores, see `best_tokens`, where any has to be scored.
        """
        count, num_drawn, vocab_size = len(draws.special), len(draws.slots), self.head.vocab_size
        slots = arrays.draw_slots[:num_drawn].long()
        rows = arrays.special[:count].long()
        nodes = arrays.nodes[:count].long()
        has_trie = any(isinstance(constraint, TokenTrie) for constraint, _ in draws.groups)
        if has_trie:
            nodes = torch.where(nodes >= 0, nodes, self._nodes[slots[rows]])
        logits = self.head.logits(num_drawn)[rows]
        allowed = allowed_tokens(draws.groups, nodes, vocab_size)
        tokens = sample(logits, _sampling_of(draws, arrays), arrays.draw_positions[rows].long(), allowed)
        scores = best_tokens(logits, allowed, draws.num_best) if draws.num_best else None
        if has_trie:
            self._nodes.index_copy_(0, slots[rows], step_nodes(draws.groups, nodes, tokens, vocab_size))
        self._drawn.index_copy_(0, rows, tokens)
        self.tokens.index_copy_(0, slots, self._drawn[:num_drawn])
        return scores


def _sampling_of(draws: Draws, arrays: StepArrays[torch.Tensor]) -> SamplingRows:
    """How the special rows are sampled, all from the step's own arrays."""
    count = draws.num_sampled
    return SamplingRows(
        drawn=arrays.sampled[:count].long() if count else None,
        temperature=arrays.temperature[:count].view(torch.float32),
        top_k=arrays.top_k[:count].long(),
        top_p=arrays.top_p[:count].view(torch.float32),
        seed=arrays.seed[: 2 * count].view(torch.int64),
        is_filtered=draws.is_filtered,
    )
