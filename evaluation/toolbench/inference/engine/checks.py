"""Checks what every engine asks of a request before it starts, and knows where every generation ends.

Host-side and free of any model, so that the engines cannot disagree about either.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.request import GenerationRequest, GenerationResult, Sampling, ScoringRequest
from evaluation.toolbench.inference.errors import EngineError

_NO_STOPS = TokenSet([])
_GREEDY = Sampling()


def vocabulary_of(model: PreTrainedModel) -> int:
    """Return rows of the model's output embedding."""
    return int(model.get_output_embeddings().weight.shape[0])


def context_of(model: PreTrainedModel) -> int:
    """Return how many tokens the model was made for, prompt and generation together."""
    return int(model.config.get_text_config().max_position_embeddings)


def check_request(request: GenerationRequest, *, vocab_size: int, max_length: int, num_checked: int = 0) -> int:
    """Return how many tokens may be generated: as asked, or what the context leaves. EngineError when invalid.

    The first `num_checked` of the prompt's tokens, not all of them, have been looked at already.
    """
    prompt_ids = request.prompt_ids[num_checked:] if num_checked else request.prompt_ids
    _check_types(request, prompt_ids)
    lowest, highest = min(prompt_ids), max(prompt_ids)
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise EngineError(
            f"prompt token id {wrong} is outside the model's vocabulary of {vocab_size} rows (ids 0 to "
            f"{vocab_size - 1}): use the tokenizer saved beside the checkpoint",
            token_id=wrong,
            vocab_size=vocab_size,
        )
    for name, largest in _largest_ids(request).items():
        if largest >= vocab_size:
            raise EngineError(
                f"{name} id {largest} is beyond the model's vocabulary of {vocab_size} rows (ids 0 to "
                f"{vocab_size - 1}): the tokenizer knows tokens that this checkpoint does not",
                token_id=largest,
                vocab_size=vocab_size,
            )
    if isinstance(request.constraint, TokenSet) and not len(request.constraint):
        raise EngineError("empty allowed set: a constraint without any token id allows nothing")
    room = max_length - len(request.prompt_ids)
    if room < 1:
        raise EngineError(
            f"a prompt of {len(request.prompt_ids)} tokens leaves no room for a new one in a context of {max_length}: "
            "shorten the conversation",
            prompt_tokens=len(request.prompt_ids),
            max_length=max_length,
        )
    return min(request.max_new_tokens, room)


def check_scoring(
    request: ScoringRequest, *, vocab_size: int, max_length: int, num_checked: int = 0
) -> GenerationRequest:
    """Return the one-token generation that finds the scores on its way. EngineError if it cannot be served.

    `num_checked` is that of `check_request`.
    """
    penalty = request.repetition_penalty
    generation = GenerationRequest(
        request.prompt_ids,
        1,
        _NO_STOPS,
        _GREEDY if penalty == 1 else Sampling(repetition_penalty=penalty),
        constraint=request.constraint,
        conversation_id=request.conversation_id,
    )
    check_request(generation, vocab_size=vocab_size, max_length=max_length, num_checked=num_checked)
    num_nodes = request.constraint.num_nodes if isinstance(request.constraint, TokenTrie) else 1
    if not 0 <= request.node < num_nodes:
        raise EngineError(f"node {request.node} in a scoring request: the constraint has nodes 0 to {num_nodes - 1}")
    return generation


def _check_types(request: GenerationRequest, prompt_ids: Sequence[int]) -> None:
    """Refuse what would break an engine later, among the requests of others. EngineError."""
    numbers = {*map(type, prompt_ids), type(request.max_new_tokens)} - {int}
    odd = next((kind for kind in numbers if not issubclass(kind, Integral)), None)
    if odd is None and isinstance(request.conversation_id, str | None):
        return
    what = "token ids and max_new_tokens are whole numbers" if odd else "a conversation_id is a text or None"
    raise EngineError(f"{what}, not {(odd or type(request.conversation_id)).__name__}")


class Walk:
    """Follows one generation token by token and says where it ends."""

    def __init__(self, request: GenerationRequest, node: int = TokenTrie.ROOT) -> None:
        self._stop_ids = request.stop_ids
        self._trie = request.constraint if isinstance(request.constraint, TokenTrie) else None
        self.node = node  # the place in the constraint's trie; the root where there is none

    def ends_with(self, token_id: int) -> bool:
        """Take the next token; True when the generation ends with it. EngineError if the trie does not hold it."""
        if token_id in self._stop_ids:
            return True
        if self._trie is None:
            return False
        if token_id == self._trie.end_id and self._trie.ends_at(self.node):
            return True
        try:
            self.node = self._trie.step(self.node, token_id)
        except KeyError:
            raise EngineError(f"token id {token_id} was generated, which the constraint does not allow here") from None
        return self._trie.is_leaf(self.node)


def result_of(request: GenerationRequest, token_ids: list[int]) -> GenerationResult:
    """Return the result of `token_ids` as generated; what comes after the end is cut off."""
    walk = Walk(request)
    for count, token_id in enumerate(token_ids, start=1):
        if walk.ends_with(token_id):
            return GenerationResult(tuple(token_ids[:count]), "stop")
    return GenerationResult(tuple(token_ids), "length")


def _largest_ids(request: GenerationRequest) -> dict[str, int]:
    largest = {"stop token": request.stop_ids.largest()}
    if request.constraint is not None:
        largest["allowed token"] = request.constraint.largest()
    return largest
