"""Asks what a server must show before a conversation is trusted to it, at the start and when it comes back.

Servers ignore fields that they do not know, and answer all the same: unconstrained. So nothing is taken on trust:
we check its model, its context and its tokens, and that it keeps to sets that the model would not choose by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.remote.endpoint import Endpoint, ServedModel
from evaluation.toolbench.inference.engine.remote.pieces import Piece
from evaluation.toolbench.inference.engine.remote.settings import LONGEST_LIST, ConstraintStyle, ServerSettings
from evaluation.toolbench.inference.engine.remote.wire import ListedModel, read_models, read_token_ids
from evaluation.toolbench.inference.engine.request import Sampling

_GUIDANCE = """--structured-outputs-config '{"backend":"guidance"}'"""
_FIRST_V2_RUNNER = (0, 23)  # vLLM's releases whose default runner stops at a long list
_TOKENIZED_AT_ONCE = 4000  # tokens


@dataclass(frozen=True)
class Needs:
    """Says what a run needs of every server.

    `model` is the checkpoint's name or path; `max_length` the longest conversation, in tokens. `spellings` are
    texts with the ids that the local tokenizer gives them, `separator` a special token with its text that may
    stand between any two. `largest_set` is the size of the largest constraint, 0 where there is none.
    """

    model: str
    vocab_size: int
    max_length: int
    spellings: Mapping[str, Sequence[int]] = field(default_factory=dict)
    separator: tuple[str, int] | None = None
    largest_set: int = 0


async def shake_hands(endpoint: Endpoint, needs: Needs, settings: ServerSettings) -> ServedModel:
    """Find out what the server serves, once it was seen to serve us. Failure; "unfit" where waiting cannot help."""
    served = await _model_of(endpoint, needs, settings)
    await _check_tokens(endpoint, served, needs)
    return await _prove_constraints(endpoint, served, needs, settings)


async def _model_of(endpoint: Endpoint, needs: Needs, settings: ServerSettings) -> ServedModel:
    try:
        models = read_models(await endpoint.get("/models"))
    except Failure as failure:
        if failure.kind == "unfit" and "status 404" in failure.words:
            raise Failure("unfit", f"has no /v1/models: is it an OpenAI-compatible server? {_URL_FORM}") from None
        raise
    if models is None:
        raise Failure("unfit", f"does not list its models: is it an OpenAI-compatible server? {_URL_FORM}")
    model = _named(models, settings.model or needs.model)
    if model is None:
        served = ", ".join(entry.name for entry in models) or "nothing"
        raise Failure(
            "unfit",
            f"serves {served}, not {settings.model or needs.model}: start it with that model, or, if this is the same "
            "under another name, pass --engine_model NAME",
        )
    max_length = model.max_length or needs.max_length
    if max_length < needs.max_length:
        raise Failure(
            "unfit",
            f"takes conversations of {max_length} tokens, and this run needs {needs.max_length}: start it with "
            f"--max-model-len {needs.max_length}, or pass --max_sequence_length {max_length}",
        )
    return ServedModel(model.name, max_length, await _version_of(endpoint), style=None)


_URL_FORM = "--engine_url is like http://HOST:8000/v1"


def _named(models: Sequence[ListedModel], wanted: str) -> ListedModel | None:
    """Return the model of that name, or made from a checkpoint of that name; paths may differ between machines."""
    for is_it in (_is_exactly, _ends_alike):
        for model in models:
            if any(is_it(name, wanted) for name in (model.name, model.root) if name):
                return model
    return None


def _is_exactly(name: str, wanted: str) -> bool:
    return name == wanted


def _ends_alike(name: str, wanted: str) -> bool:
    return PurePath(name).name == PurePath(wanted).name


async def _version_of(endpoint: Endpoint) -> str:
    try:
        return str((await endpoint.get("/version", below_v1=False)).get("version", "unknown"))
    except Failure as failure:
        if failure.kind in ("lost", "busy"):
            raise
        return "unknown"


async def _check_tokens(endpoint: Endpoint, served: ServedModel, needs: Needs) -> None:
    for texts, expected in _token_chunks(needs):
        body = {"model": served.name, "prompt": "".join(text for text, _ in texts), "add_special_tokens": False}
        try:
            reply = await endpoint.post("/tokenize", body, below_v1=False)
        except Failure as failure:
            if failure.kind != "unfit":
                raise
            raise Failure(
                "unfit",
                "has no /tokenize beside /v1, so its tokens cannot be compared with ours: use vLLM, and let a proxy "
                "before it pass this path on",
            ) from None
        tokens = read_token_ids(reply.get("tokens"))
        if tokens is None:
            raise Failure("unfit", "answers /tokenize without a list of token ids: use vLLM")
        if tokens != expected:
            text, ids, there = _first_difference(texts, tokens)
            raise Failure(
                "unfit",
                f"reads {text} as token ids {there}, and the local tokenizer as {list(ids)}: start it with the "
                "checkpoint of --model_path and its own tokenizer",
            )


_Texts = list[tuple[str, Sequence[int]]]


def _token_chunks(needs: Needs) -> Iterator[tuple[_Texts, list[int]]]:
    """Yield texts to be read at once, and the ids that they have together."""
    texts: _Texts = []
    ids: list[int] = []
    separator, separator_id = needs.separator or ("", -1)
    for text, its_ids in needs.spellings.items():
        its_ids = [*its_ids, separator_id] if separator else list(its_ids)
        texts.append((text + separator, its_ids))
        ids += its_ids
        if len(ids) >= _TOKENIZED_AT_ONCE:
            yield texts, ids
            texts, ids = [], []
    if texts:
        yield texts, ids


def _first_difference(texts: _Texts, there: Sequence[int]) -> tuple[str, Sequence[int], list[int]]:
    """Return the first text that is read differently, its ids here, and as many or one more from there."""
    position = 0
    for text, ids in texts:
        if list(there[position : position + len(ids)]) != list(ids):
            return text, ids, list(there[position : position + len(ids) + 1])
        position += len(ids)
    return texts[-1][0], texts[-1][1], list(there[position:])


async def _prove_constraints(
    endpoint: Endpoint, served: ServedModel, needs: Needs, settings: ServerSettings
) -> ServedModel:
    prompt = tuple(range(min(3, needs.vocab_size)))
    [own_choice] = await endpoint.complete(Piece(prompt, 1, Sampling()), served)
    stopped = await endpoint.complete(Piece(prompt, 4, Sampling(), stop_ids=(own_choice,)), served)
    if stopped != [own_choice]:
        raise Failure("unfit", "does not end a generation with the stop token (stop_token_ids): use vLLM 0.11 or newer")
    others = [token_id for token_id in range(needs.vocab_size) if token_id != own_choice]
    small = (TokenSet(others[:2]), TokenSet(others[-2:]))
    if not await _keeps_to(endpoint, served, prompt, small):
        raise Failure(
            "unfit",
            "ignores allowed_token_ids, so actions would be anything: use vLLM (scripts/serve_vllm.sh starts one)",
        )
    if len(others) <= LONGEST_LIST:
        return served
    count = LONGEST_LIST + 1
    large = (TokenSet(others[:count]), TokenSet(others[-count:]))
    styles = _styles_to_try(served.version, settings.constraints)
    for style in styles:
        candidate = replace(served, style=style)
        if await _keeps_to(endpoint, candidate, prompt, (*large, large[0])):
            return candidate
    if needs.largest_set > LONGEST_LIST:
        raise Failure(
            "unfit",
            f"(vLLM {served.version}) does not keep to a set of more than {LONGEST_LIST} token ids written as "
            f"{' or '.join(styles)}, and this run has one of {needs.largest_set}: start it with {_GUIDANCE} (as "
            "scripts/serve_vllm.sh does), or with VLLM_USE_V2_MODEL_RUNNER=0 and pass --engine_constraints list",
        )
    return served


async def _keeps_to(endpoint: Endpoint, served: ServedModel, prompt: Sequence[int], sets: Sequence[TokenSet]) -> bool:
    """Return whether the server answers with a token of each set, asked one after another."""
    for allowed in sets:
        try:
            ids = await endpoint.complete(Piece(prompt, 1, Sampling(), allowed), served)
        except Failure as failure:
            if failure.kind in ("lost", "busy"):
                raise
            return False
        if not all(token_id in allowed for token_id in ids):
            return False
    return True


def _styles_to_try(version: str, told: ConstraintStyle | None) -> tuple[ConstraintStyle, ...]:
    """Tell how large sets may be written without a risk to the server, the better way first.

    A grammar that a server cannot apply is refused or ignored; a long list stops some servers. Lists are tried
    only where the release is known to take them, or on the user's word.
    """
    if told is not None:
        return (told,)
    release = re.match(r"(\d+)\.(\d+)", version)
    takes_lists = release is not None and (int(release[1]), int(release[2])) < _FIRST_V2_RUNNER
    return ("grammar", "list") if takes_lists else ("grammar",)
