"""Asks an engine for text: prompts fit the context, seeds can be repeated, texts have no end tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.request import Engine, GenerationRequest, Sampling
from evaluation.toolbench.inference.errors import EngineError
from evaluation.toolbench.inference.toolgen.action_tokens import AllowedActions
from evaluation.toolbench.inference.toolgen.chat_format import PromptEncoder

Phase = Literal["planning", "acting", "calling", "reply", "retrieval"]


class ContextFull(EngineError):
    """Says that a conversation leaves no room for what is to be generated next."""


@dataclass(frozen=True)
class Generated:
    """Holds `text` and `ids` without the end token, which `num_tokens` counts."""

    text: str
    ids: tuple[int, ...]
    num_tokens: int


class TextGenerator:
    """Generates for one agent and its siblings; holds no state of any conversation."""

    def __init__(
        self, engine: Engine, encoder: PromptEncoder, end: TokenSet, *, max_length: int, max_new_tokens: int
    ) -> None:
        self._engine = engine
        self._encoder = encoder
        self._end = end
        self._max_length = min(engine.max_length, max_length)
        self._max_new_tokens = max_new_tokens

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        stops: TokenSet | None = None,
        allowed: AllowedActions | None = None,
        conversation_id: str | None = None,
    ) -> Generated:
        """Generate the text that follows the prompt, up to an end of turn or to one of `stops`, which stays.

        With `allowed` it is exactly one of the allowed actions. ContextFull when there is no room for a
        single token, or for the longest of those actions.
        """
        room = self._max_length - len(prompt_ids)
        needed = allowed.max_new_tokens if allowed else 1
        if room < needed:
            raise ContextFull(
                f"the conversation has {len(prompt_ids)} of at most {self._max_length} tokens and {needed} more are "
                "needed: raise max_sequence_length if the model's context allows it",
                prompt_tokens=len(prompt_ids),
                max_length=self._max_length,
            )
        result = self._engine.generate(
            GenerationRequest(
                prompt_ids=prompt_ids,
                max_new_tokens=needed if allowed else min(self._max_new_tokens, room),
                stop_ids=stops or self._end,
                sampling=sampling,
                constraint=allowed.constraint if allowed else None,
                conversation_id=conversation_id,
            )
        )
        ids = result.token_ids
        if ids and ids[-1] in self._end:
            ids = ids[:-1]
        text = allowed.action_of_ids[ids] if allowed else self._encoder.decode(ids)
        return Generated(text, ids, len(result.token_ids))


def draw_seed(seed: int, query_id: str, step: int, phase: Phase, attempt: int) -> int:
    """Return 64 bits that depend on nothing but the arguments: the same in every process, run and order of queries."""
    place = repr((seed, query_id, step, phase, attempt)).encode()
    return int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), "big")
