"""Splits one generation into the requests that it takes. Pure: nothing is sent from here.

Most generations are one request. These are several:

- a tree of token sequences is walked here, one token a request, and a token without an alternative takes none;
- a set too large for a list of ids is applied to one token a request, because a grammar ends after its token;
- many stop tokens (all tool tokens, after an action that is not restricted) are not sent: the text is asked for
  in pieces that grow, and cut off here;
- a server that ends early, for a stop token or a limit of its own, is asked to go on.

Each request of a generation extends the one before, so the server's prefix cache has read it already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluation.toolbench.inference.engine.checks import Walk
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.remote.settings import LONGEST_LIST
from evaluation.toolbench.inference.engine.request import GenerationRequest, GenerationResult, Sampling
from evaluation.toolbench.inference.errors import EngineError

_MOST_STOP_IDS = 64  # vLLM looks through its list of them after every token
_GROWTH = 4  # of a piece over the one before, where the end has to be looked for here


@dataclass(frozen=True, slots=True)
class Piece:
    """Describes one request. `allowed` (None: any token) holds for each of its tokens."""

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling
    allowed: TokenSet | None = None
    stop_ids: tuple[int, ...] = ()


class PiecewiseGeneration:
    """Follows one generation: `next_piece`, then `take` what came of it, until there is no next piece."""

    def __init__(self, request: GenerationRequest, max_new_tokens: int, *, vocab_size: int) -> None:
        self._request = request
        self._max_new_tokens = max_new_tokens
        self._vocab_size = vocab_size
        self._walk = Walk(request)
        self._ids: list[int] = []
        self._has_ended = False
        self._last_size = 0
        self._allowed_now: TokenSet | None = None

    def next_piece(self) -> Piece | None:
        """Return what to ask next; None when the generation is complete."""
        while (left := self._max_new_tokens - len(self._ids)) and not self._has_ended:
            self._allowed_now = self._allowed()
            if self._allowed_now is not None and len(self._allowed_now) == 1 and self._is_walked:
                self.take(self._allowed_now.ids.tolist())
                continue
            size = self._size(left)
            self._last_size = size
            return Piece(
                prompt_ids=[*self._request.prompt_ids, *self._ids],
                max_tokens=size,
                sampling=_sampling_at(self._request.sampling, len(self._ids)),
                allowed=self._allowed_now,
                stop_ids=self._sent_stop_ids() if size > 1 else (),
            )
        return None

    def take(self, token_ids: Sequence[int]) -> None:
        """Go on with these ids; what comes after the end is dropped. EngineError for an id that was not allowed."""
        if not token_ids:
            raise EngineError("the generation server returned no token where it was asked for at least one")
        for token_id in token_ids:
            if not 0 <= token_id < self._vocab_size:
                raise EngineError(
                    f"the generation server returned token id {token_id}, outside the vocabulary of {self._vocab_size} "
                    "rows: it serves another model",
                    token_id=token_id,
                )
            if self._allowed_now is not None and token_id not in self._allowed_now:
                raise EngineError(
                    f"the generation server returned token id {token_id}, which is not among the "
                    f"{len(self._allowed_now)} that were allowed: it does not honour the constraint, and nothing is "
                    "made of its answer. Restart it as scripts/serve_vllm.sh does",
                    token_id=token_id,
                )
            self._ids.append(token_id)
            self._has_ended = self._walk.ends_with(token_id)
            if self._has_ended or len(self._ids) == self._max_new_tokens:
                return

    def result(self) -> GenerationResult:
        """Return the generation so far."""
        return GenerationResult(tuple(self._ids), "stop" if self._has_ended else "length")

    @property
    def _is_walked(self) -> bool:
        """Return whether the constraint changes from token to token."""
        return self._request.constraint is not None and not isinstance(self._request.constraint, TokenSet)

    def _allowed(self) -> TokenSet | None:
        constraint = self._request.constraint
        if constraint is None or isinstance(constraint, TokenSet):
            return constraint
        return TokenSet(constraint.allowed(self._walk.node))

    def _size(self, left: int) -> int:
        allowed = self._allowed_now
        if allowed is not None and (self._is_walked or len(allowed) > LONGEST_LIST):
            return 1
        if len(self._relevant_stop_ids()) <= _MOST_STOP_IDS:
            return left
        return min(left, max(1, _GROWTH * self._last_size))

    def _sent_stop_ids(self) -> tuple[int, ...]:
        stop_ids = self._relevant_stop_ids()
        return stop_ids if len(stop_ids) <= _MOST_STOP_IDS else ()

    def _relevant_stop_ids(self) -> tuple[int, ...]:
        """Return the stop ids that can be drawn under what is allowed now."""
        stop_ids, allowed = self._request.stop_ids, self._allowed_now
        if allowed is None:
            return tuple(stop_ids.ids.tolist())
        smaller, larger = sorted((stop_ids, allowed), key=len)
        return tuple(token_id for token_id in smaller.ids.tolist() if token_id in larger)


def _sampling_at(sampling: Sampling, position: int) -> Sampling:
    """Return how the token at `position` is drawn: a server counts positions from the request's start."""
    if sampling.temperature == 0:
        return Sampling(repetition_penalty=sampling.repetition_penalty)
    if position == 0:
        return sampling
    digest = hashlib.blake2b(repr((sampling.seed, position)).encode(), digest_size=8).digest()
    return replace(sampling, seed=int.from_bytes(digest, "big"))
