"""Defines what an engine is asked and what it answers: token ids in, token ids out.

The engine knows nothing of tools, prompts or text. Every engine (`generate`, `paged`, `server`)
serves the same requests and gives, in float32, the same tokens.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from evaluation.toolbench.inference.engine.constraint import Constraint, TokenSet, TokenTrie
from evaluation.toolbench.inference.errors import EngineError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Says how the next token is drawn. Temperature 0 is greedy: `top_p`, `top_k` and `seed` then have no effect.

    `top_k=0` and `top_p=1.0` switch those filters off. A `repetition_penalty` above 1 makes the tokens less likely
    that the prompt or the generation already has, at any temperature; 1.0 is off. The tokens drawn depend on `seed`
    and on the position in the generation alone, never on which other requests share the batch.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise EngineError(f"temperature must be 0 (greedy) or above, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise EngineError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.top_k < 0:
            raise EngineError(f"top_k must be 0 (off) or above, not {self.top_k}")
        if not 0 < self.repetition_penalty < math.inf:
            raise EngineError(f"repetition_penalty must be a number above 0, not {self.repetition_penalty}")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Asks for one generation.

    `prompt_ids` is the whole conversation so far. `stop_ids` end the generation; the one that did is
    part of the result. `constraint` limits what may be generated (see `constraint.py`). Requests that
    share a `conversation_id` come one after another and mostly extend each other's prompt, so an
    engine may keep their state until `end_conversation`.
    """

    prompt_ids: Sequence[int]
    max_new_tokens: int
    stop_ids: TokenSet
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    conversation_id: str | None = None

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise EngineError("empty prompt: a generation needs at least one prompt token")
        if self.max_new_tokens < 1:
            raise EngineError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """`token_ids` are the generated ones only, a final stop token included.

    `finish_reason` is "stop" after a stop token or at the end of a constraint's path, "length" when
    `max_new_tokens` or the model's context was reached. `first_token_s` is the time from the request to its
    first token, None where an engine sees whole generations alone; it makes no two results differ.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    first_token_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """Asks for the most likely next tokens after a prompt: the best `num_best` of those that `constraint` allows.

    Their log-probabilities are over the whole vocabulary, so that those of a small set do not add up to 1; the
    log-probability of one given token is that of a set of one. In a trie, `node` is the place that the prompt has
    come to.

    A `repetition_penalty` above 1 multiplies the log-probabilities of tokens that the prompt already has.

    With a `conversation_id` the engine may keep what it reads until `end_conversation`. Prompts that continue this one
    in different ways name it as their `parent_id`, and an engine that can reads no more of them than what they add.
    """

    prompt_ids: Sequence[int]
    num_best: int
    constraint: Constraint | None = None
    node: int = TokenTrie.ROOT
    conversation_id: str | None = None
    parent_id: str | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise EngineError("empty prompt: scoring needs at least one prompt token")
        if self.num_best < 1:
            raise EngineError(f"num_best must be at least 1, not {self.num_best}")


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """Holds the best tokens, best first, with natural logarithms of probability; fewer where fewer are allowed."""

    token_ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]


class Engine(Protocol):
    """Says what the agents need of an engine. All methods may be called from any thread."""

    vocab_size: int  # rows of the output embedding; ids at or above it cannot be generated
    max_length: int  # longest prompt plus generation, in tokens

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        """Queue `request`. An error in it (EngineError) is the future's, and no other request's."""
        ...

    def generate(self, request: GenerationRequest) -> GenerationResult:
        """Submit `request` and wait for it."""
        ...

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        """Queue `request`. An error in it (EngineError) is the future's, as is that of an engine that cannot score."""
        ...

    def score_all(self, requests: Sequence[ScoringRequest]) -> Future[list[ScoringResult]]:
        """Queue all `requests`, at least one; their results come together, in their order, or the first one's error.

        Cancelling the future ends them all. An engine may look only once at what their prompts have in common.
        """
        return _together([self.score(request) for request in requests])

    def end_conversation(self, conversation_id: str) -> None:
        """Give back what is kept for this conversation. Unknown ids are fine."""
        ...

    def close(self) -> None:
        """Cancel what waits, finish what runs, release the model. Later submits raise EngineError."""
        ...


def _together(futures: Sequence[Future[ScoringResult]]) -> Future[list[ScoringResult]]:
    """Return the future of all results, which is over when all are."""
    whole: Future[list[ScoringResult]] = Future()
    lock, left = threading.Lock(), [len(futures)]

    def take(_: Future[ScoringResult]) -> None:
        with lock:
            left[0] -= 1
            if left[0]:
                return
        if whole.set_running_or_notify_cancel():
            try:
                whole.set_result([future.result() for future in futures])
            except Exception as error:
                whole.set_exception(error)

    for future in futures:
        future.add_done_callback(take)
    whole.add_done_callback(lambda whole: whole.cancelled() and [future.cancel() for future in futures])
    return whole


@runtime_checkable
class CountsSteps(Protocol):
    """Says how far an engine is within generations."""

    def num_steps(self) -> int:
        """Return the steps launched so far; it grows as long as anything runs."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """Counts tokens when they are drawn, not when their generation ends."""

    def num_tokens(self) -> int:
        """Return the tokens generated so far, those of generations that still run included."""
        ...


@runtime_checkable
class CountsPromptTokens(Protocol):
    """Counts what an engine reads of prompts, without what its KV cache had."""

    def num_prompt_tokens(self) -> int:
        """Return the prompt tokens that the model has read so far."""
        ...


@dataclass(frozen=True, slots=True)
class KvUse:
    """Counts what the KV cache holds at one moment."""

    used_tokens: int  # that pages are held for, by conversations that run or wait for their next request
    repeated_preemptions: int  # so far, of sequences that lost their pages twice and drew nothing in between


@runtime_checkable
class HasKvCache(Protocol):
    """Describes an engine whose own KV cache limits how many conversations it serves well."""

    def kv_tokens(self) -> int:
        """Return how many tokens the cache holds, over all conversations."""
        ...

    def kv_use(self) -> KvUse:
        """Return what the cache is used for at this moment."""
        ...
