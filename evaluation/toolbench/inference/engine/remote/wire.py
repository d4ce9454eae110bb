"""Writes requests to, and reads replies of, an OpenAI-compatible completion server, as JSON. Pure.

Every parameter that could draw a token differently is in each request: what is left out, vLLM fills in from the
checkpoint's generation_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from evaluation.toolbench.http_client.server_replies import Failure, error_words, raise_for_status, read_object
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.remote.pieces import Piece
from evaluation.toolbench.inference.engine.remote.settings import KEY_VARIABLE, LONGEST_LIST, ConstraintStyle

_CACHED_SETS = 256


def completion_request(piece: Piece, model: str, style: ConstraintStyle | None) -> bytes:
    """Return the JSON of one request. `style` is for sets beyond 1,024 ids; Failure where it is needed and None."""
    request = {
        "model": model,
        "prompt": list(piece.prompt_ids),
        "max_tokens": piece.max_tokens,
        "min_tokens": 0,
        "n": 1,
        "echo": False,
        "stream": False,
        **_sampling_fields(piece),
        "stop": [],
        "stop_token_ids": list(piece.stop_ids),
        # Ends are ours to see: the checkpoint's own end token is one of several, and no end at all to some agents.
        "ignore_eos": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "return_token_ids": True,
    }
    body = json.dumps(request, separators=(",", ":"))
    if piece.allowed is not None:
        body = f"{body[:-1]},{_constraint_json(piece.allowed, style)}}}"
    return body.encode()


def ranges_of(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending ids as (first, last) runs.

    >>> ranges_of([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    ranges: list[tuple[int, int]] = []
    for token_id in ids:
        if ranges and token_id == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], token_id)
        else:
            ranges.append((token_id, token_id))
    return ranges


def token_grammar(allowed: TokenSet) -> str:
    """Return a Lark grammar, in llguidance's dialect, for exactly one token of the set.

    >>> token_grammar(TokenSet([7, *range(1419, 1422)]))
    'start: <[7,1419-1421]>'
    """
    terms = (f"{first}" if first == last else f"{first}-{last}" for first, last in ranges_of(allowed.ids.tolist()))
    return f"start: <[{','.join(terms)}]>"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """Describes an entry of /v1/models. `root` is the checkpoint it was made from, "" where that is not said."""

    name: str
    root: str
    max_length: int | None  # tokens of a prompt and its generation


def read_models(reply: Mapping[str, Any]) -> list[ListedModel] | None:
    """Return the models that a server lists; None where the reply is not a list of models."""
    entries = reply.get("data")
    if not isinstance(entries, list):
        return None
    return [
        ListedModel(
            name=entry["id"],
            root=entry["root"] if isinstance(entry.get("root"), str) else "",
            max_length=length if _is_count(length := entry.get("max_model_len")) else None,
        )
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


def read_token_ids(value: Any) -> list[int] | None:
    """Return a list of token ids, None where `value` is something else."""
    return value if isinstance(value, list) and all(type(token_id) is int for token_id in value) else None


def read_completion(status: int, headers: Mapping[str, str], body: bytes, max_tokens: int) -> list[int]:
    """Return the generated ids, the stop token included. Failure for everything that is not a complete answer."""
    raise_for_status(status, headers, body, key_variable=KEY_VARIABLE)
    reply = read_object(headers, body)
    if "error" in reply:  # a server that dies after it has sent its status says so in the body
        raise Failure("failed", f"answered with an error: {error_words(reply)}")
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or "finish_reason" not in choice:
        raise Failure("failed", "answered with JSON that is not a completion")
    reason = choice["finish_reason"]
    if reason not in ("stop", "length"):
        raise Failure("failed", f"ended a generation in the middle (finish_reason {str(reason)[:100]!r})")
    if choice.get("token_ids") is None:
        raise Failure("unfit", "does not return token ids (return_token_ids): use vLLM 0.11 or newer")
    token_ids = read_token_ids(choice["token_ids"])
    if token_ids is None:
        raise Failure("failed", "answered with token ids that are not integers")
    if not 1 <= len(token_ids) <= max_tokens:
        raise Failure("failed", f"returned {len(token_ids)} tokens where 1 to {max_tokens} were asked for")
    return token_ids


def _sampling_fields(piece: Piece) -> dict[str, float | int]:
    sampling = piece.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "seed": (sampling.seed + 2**63) % 2**64 - 2**63,  # servers take signed 64 bits
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": sampling.repetition_penalty,
    }


def _constraint_json(allowed: TokenSet, style: ConstraintStyle | None) -> str:
    if len(allowed) <= LONGEST_LIST:
        return _list_json(allowed)
    if style is None:
        raise Failure(
            "refused",
            f"has not been shown to apply a set of {len(allowed)} token ids: start it with "
            """--structured-outputs-config '{"backend":"guidance"}'""",
        )
    return _large_set_json(allowed, style)


@lru_cache(maxsize=_CACHED_SETS)  # such sets are made once for a catalog, and are equal only to themselves
def _large_set_json(allowed: TokenSet, style: ConstraintStyle) -> str:
    if style == "list":
        return _list_json(allowed)
    return f'"structured_outputs":{json.dumps({"grammar": token_grammar(allowed)})}'


def _list_json(allowed: TokenSet) -> str:
    return f'"allowed_token_ids":{json.dumps(allowed.ids.tolist(), separators=(",", ":"))}'


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0
