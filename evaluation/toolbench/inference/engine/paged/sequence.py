"""Follows one request through the paged engine: its tokens, its pages, and what is still unknown."""

from __future__ import annotations

import time

from evaluation.toolbench.inference.engine.checks import Walk
from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.paged.prefix import Prefix
from evaluation.toolbench.inference.engine.request import (
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ScoringRequest,
    ScoringResult,
)


class Sequence:
    """`number` is the order of arrival: the lower one goes first, and the highest gives way when pages run out.

    A step that has been launched may have drawn a token that the host does not know yet: it counts in
    `length` and `num_drawn`, but is not in `token_ids`.

    A `scoring` is served as the generation of one token, the best one: the row that draws it brings the `scores`.
    """

    def __init__(
        self, number: int, request: GenerationRequest, max_new_tokens: int, scoring: ScoringRequest | None = None
    ) -> None:
        self.number = number
        self.request = request
        self.max_new_tokens = max_new_tokens
        self.token_ids = list(request.prompt_ids)  # the prompt, then the generated ones that the host knows
        self.num_prompt = len(self.token_ids)
        self.num_unknown = 0  # drawn on the device, not known to the host yet
        self.length = self.num_prompt  # tokens, the unknown ones included
        self.prefix = Prefix()  # the tokens whose keys and values are computed, or will be by what was launched
        self.names: list[bytes] = []  # of the first full pages of `token_ids`
        self.batch = 0  # which of the batches in flight it is a part of, while it runs
        self.slot: int | None = None  # where the device keeps its last token and its place in a trie, while it runs
        self.scoring = scoring
        self.scores: ScoringResult | None = None
        self.walk = Walk(request, scoring.node if scoring is not None else TokenTrie.ROOT)
        self.drawn_at_preemption = -1  # tokens drawn when it last lost its pages to others
        self.asked_at = 0  # steps that had been launched when it began to wait
        self.has_begun = False  # it has had a part in the steps, though it may be waiting again
        self.finish_reason: FinishReason | None = None
        self._submitted = time.perf_counter()
        self._first_token_s: float | None = None
        self.is_dropped = False  # cancelled or failed: nobody waits for it any more
        self.is_kept = request.conversation_id is not None  # its pages stay for the conversation's next prompt

    @property
    def running_slot(self) -> int:
        """Return the slot of a sequence that runs: anything else would write to another sequence's."""
        assert self.slot is not None
        return self.slot

    @property
    def num_pending(self) -> int:
        """Return how many tokens the model has not read yet."""
        return self.length - self.prefix.num_tokens

    @property
    def num_drawn(self) -> int:
        """Return how many tokens are generated, the unknown one included: the position of the next draw."""
        return self.length - self.num_prompt

    @property
    def is_branch(self) -> bool:
        """Return whether it continues what another one has read, in one of several ways: that stays as it is."""
        return self.scoring is not None and self.scoring.parent_id is not None

    @property
    def source_id(self) -> str | None:
        """Return the conversation whose pages it begins with."""
        if self.scoring is not None and self.scoring.parent_id is not None:
            return self.scoring.parent_id
        return self.request.conversation_id

    @property
    def num_best(self) -> int:
        """Return how many tokens are to be scored where one is drawn."""
        return self.scoring.num_best if self.scoring is not None else 0

    @property
    def is_over(self) -> bool:
        return self.finish_reason is not None or self.is_dropped

    @property
    def has_trie(self) -> bool:
        return isinstance(self.request.constraint, TokenTrie)

    def add_token(self, token_id: int) -> bool:
        """Take the token that was unknown; True, with a `finish_reason`, when the generation ends with it."""
        self.num_unknown -= 1
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter() - self._submitted
        self.token_ids.append(token_id)
        if self.scoring is None and self.walk.ends_with(token_id):
            self.finish_reason = "stop"
        elif len(self.token_ids) - self.num_prompt == self.max_new_tokens:
            self.finish_reason = "length"
        return self.finish_reason is not None

    def result(self) -> GenerationResult | ScoringResult:
        """Return what was asked for, of a sequence that has finished."""
        assert self.finish_reason is not None
        if self.scoring is not None:
            assert self.scores is not None  # they come with the token
            return self.scores
        return GenerationResult(tuple(self.token_ids[self.num_prompt :]), self.finish_reason, self._first_token_s)
