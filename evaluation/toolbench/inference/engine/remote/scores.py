"""Scores a prompt's next tokens by a completion server's log-probabilities. Pure: nothing is sent from here.

A server says the log-probabilities of the few tokens that are the most likely of its whole vocabulary, whatever set is
allowed. Those of the set that are not among them are asked for one by one, as the last token of a prompt; where a set
is too large for that, the best of it cannot be known from such a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from evaluation.toolbench.http_client.server_replies import Failure, raise_for_status, read_object
from evaluation.toolbench.inference.engine.constraint import Constraint, TokenSet
from evaluation.toolbench.inference.engine.remote.settings import KEY_VARIABLE
from evaluation.toolbench.inference.engine.request import ScoringRequest, ScoringResult
from evaluation.toolbench.inference.errors import EngineError

_USUAL_TOP = 20  # vLLM's --max-logprobs, where it is not raised
_MOST_SINGLE = 64  # tokens that are asked for one by one
_ID_PREFIX = "token_id:"


class ScoringByServer:
    """Follows one scoring: ask for the `num_top` likeliest tokens, `take` them, then for each of `missing`."""

    def __init__(self, request: ScoringRequest) -> None:
        self._request = request
        self._allowed = _allowed_ids(request.constraint, request.node)
        self._found: dict[int, float] = {}

    @property
    def num_top(self) -> int:
        return max(_USUAL_TOP, self._request.num_best)

    def take(self, scores: Mapping[int, float]) -> None:
        """Take in more log-probabilities; those of tokens that are not allowed are left out."""
        self._found.update((i, score) for i, score in scores.items() if self._allowed is None or i in self._allowed)

    def missing(self) -> list[int]:
        """Return the allowed tokens that could still be among the best. EngineError if they are too many to ask for."""
        if self._allowed is None or len(self._found) >= min(self._request.num_best, len(self._allowed)):
            return []
        missing = sorted(self._allowed - self._found.keys())
        if len(missing) > _MOST_SINGLE:
            raise EngineError(
                f"the generation server says the log-probabilities of its {self.num_top} likeliest tokens, and "
                f"{len(self._found)} of these are among the {len(self._allowed)} allowed ones, where "
                f"{self._request.num_best} are asked for: the model hardly names tools here, or this needs an engine "
                "of our own (--engine paged)"
            )
        return missing

    def result(self) -> ScoringResult:
        best = sorted(self._found.items(), key=lambda item: -item[1])[: self._request.num_best]
        return ScoringResult(tuple(i for i, _ in best), tuple(score for _, score in best))


def check_can_score(request: ScoringRequest) -> None:
    """Raise EngineError for what a server's log-probabilities do not tell."""
    if request.repetition_penalty != 1:
        raise EngineError(
            f"the generation server says log-probabilities without the repetition penalty of "
            f"{request.repetition_penalty:g}: use an engine of our own (--engine paged)"
        )


def top_request(prompt_ids: Sequence[int], num_top: int, model: str) -> bytes:
    """Return the JSON that asks for the likeliest next tokens."""
    return _body(prompt_ids, model, {"logprobs": num_top})


def single_request(prompt_ids: Sequence[int], token_id: int, model: str) -> bytes:
    """Return the JSON that asks for the log-probability of one next token."""
    return _body([*prompt_ids, token_id], model, {"prompt_logprobs": 1})


def read_top(status: int, headers: Mapping[str, str], body: bytes) -> dict[int, float]:
    """Return log-probabilities by token id. Failure for everything else."""
    choice = _choice(status, headers, body)
    try:
        top = choice["logprobs"]["top_logprobs"][0]
        return {int(name.removeprefix(_ID_PREFIX)): float(value) for name, value in top.items()}
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Failure(
            "refused", "does not return log-probabilities by token id (logprobs, return_tokens_as_token_ids)"
        ) from None


def read_single(status: int, headers: Mapping[str, str], body: bytes, token_id: int) -> float:
    """Return the log-probability of the prompt's last token. Failure for everything else."""
    choice = _choice(status, headers, body)
    try:
        return float(choice["prompt_logprobs"][-1][str(token_id)]["logprob"])
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Failure("refused", "does not return the log-probabilities of a prompt (prompt_logprobs)") from None


def _body(prompt_ids: Sequence[int], model: str, fields: Mapping[str, Any]) -> bytes:
    request = {
        "model": model,
        "prompt": list(prompt_ids),
        "max_tokens": 1,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,
        "return_tokens_as_token_ids": True,
        **fields,
    }
    return json.dumps(request, separators=(",", ":")).encode()


def _choice(status: int, headers: Mapping[str, str], body: bytes) -> Any:
    raise_for_status(status, headers, body, key_variable=KEY_VARIABLE)
    try:
        return read_object(headers, body)["choices"][0]
    except (LookupError, TypeError):
        raise Failure("failed", "answered with JSON that is not a completion") from None


@lru_cache(maxsize=256)  # the root of a catalog's trie has tens of thousands, the same for every prompt
def _allowed_ids(constraint: Constraint | None, node: int) -> frozenset[int] | None:
    if constraint is None:
        return None
    if isinstance(constraint, TokenSet):
        return frozenset(constraint.ids.tolist())
    return frozenset(constraint.allowed(node) or [constraint.end_id])
