"""Turns actions into the token ids that a model generates for them.

With Atomic indexing an action is one token of the model's vocabulary, otherwise a text of several ordinary
tokens. All ids are looked up in the tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from evaluation.toolbench.inference.engine.constraint import Constraint, TokenSet, TokenTrie
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.toolgen.catalog import ToolCatalog
from evaluation.toolbench.inference.toolgen.chat_format import ChatFormat, PromptEncoder

_CACHED_SETS = 256  # sets of allowed actions; a query asks for its own in every step


@dataclass(frozen=True)
class AllowedActions:
    """Holds a constraint, and knows how to read what was generated under it."""

    constraint: Constraint
    max_new_tokens: int  # enough for the longest action and the end token, where one may follow
    action_of_ids: dict[tuple[int, ...], str]


class ActionTokens:
    """Holds the ids of a catalog's actions under one tokenizer. Safe to use from several threads.

    DataError when the tokenizer has no end-of-turn token of this format, or lacks tool tokens.
    """

    def __init__(self, catalog: ToolCatalog, encoder: PromptEncoder, form: ChatFormat) -> None:
        vocabulary: dict[str, int] = encoder.vocabulary()
        if form.end_token not in vocabulary:
            raise DataError(
                f"the tokenizer has no token {form.end_token}, which ends a turn in the template {form.name!r}: "
                "choose the template that the checkpoint was trained with"
            )
        self.end_id = vocabulary[form.end_token]
        self.end = TokenSet([self.end_id])
        self._encoder = encoder
        self._token_ids = _tool_token_ids(catalog, vocabulary) if catalog.indexing == "Atomic" else None
        # A tool token is a whole action, so nothing that could follow it is wanted.
        self.stops = TokenSet([self.end_id, *self._token_ids.values()]) if self._token_ids else self.end
        self._allowed = lru_cache(maxsize=_CACHED_SETS)(self._make_allowed)

    def ids_of(self, action: str) -> tuple[int, ...]:
        """Return the ids of an action of the catalog, without an end token."""
        if self._token_ids is not None:
            return (self._token_ids[action],)
        return tuple(self._encoder.encode_bare(action))

    def allowed(self, actions: Iterable[str]) -> AllowedActions:
        """Return the constraint to exactly these actions of the catalog, made once for the same ones."""
        return self._allowed(tuple(actions))

    def constraint_of_ids(self, ids: Sequence[int] | Sequence[Sequence[int]]) -> AllowedActions:
        """Return the constraint to actions given as ids: one id each, or one sequence each."""
        sequences = [(entry,) if isinstance(entry, int) else tuple(entry) for entry in ids]
        return self._allowed_of({sequence: self._encoder.decode(sequence) for sequence in sequences})

    def check_rows(self, num_rows: int) -> None:
        """Raise DataError when a tool token lies beyond an embedding of `num_rows` rows."""
        if self._token_ids is None:
            return
        action, token_id = max(self._token_ids.items(), key=lambda item: item[1])
        if token_id >= num_rows:
            raise DataError(
                f"the tool token {action} has id {token_id} but the model's embedding has {num_rows} rows: the "
                "tokenizer knows tools that this checkpoint does not. Use the tokenizer saved beside the checkpoint",
                token_id=token_id,
                num_rows=num_rows,
            )

    def _make_allowed(self, actions: tuple[str, ...]) -> AllowedActions:
        return self._allowed_of({self.ids_of(action): action for action in actions})

    def _allowed_of(self, action_of_ids: dict[tuple[int, ...], str]) -> AllowedActions:
        if all(len(ids) == 1 for ids in action_of_ids):
            return AllowedActions(TokenSet(ids[0] for ids in action_of_ids), 1, action_of_ids)
        trie = TokenTrie(action_of_ids, self.end_id)
        return AllowedActions(trie, trie.max_depth + 1, action_of_ids)


def _tool_token_ids(catalog: ToolCatalog, vocabulary: dict[str, int]) -> dict[str, int]:
    missing = [action for action in catalog.actions if action not in vocabulary]
    if missing:
        raise DataError(
            f"the tokenizer lacks {len(missing)} of the {len(catalog.actions)} tool tokens, the first is {missing[0]}: "
            "use a ToolGen checkpoint with its own tokenizer, and the data folder that it was trained with",
            missing=missing,
        )
    return {action: vocabulary[action] for action in catalog.actions}
