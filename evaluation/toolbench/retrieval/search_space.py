"""Writes the tool space as token ids: every candidate's text in a trie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.errors import DataError


def search_space(tokenizer: Any, indexing: str, candidates: Sequence[str], end_id: int, vocab_size: int) -> TokenTrie:
    """Make the trie of all `candidates`, each of which `end_id` ends.

    DataError when the tokenizer does not have the tool tokens, or has more than the model's `vocab_size` rows.
    """
    if indexing == "Atomic":
        sequences = _tool_tokens(tokenizer, candidates)
    else:
        sequences = tokenizer(list(candidates), add_special_tokens=False)["input_ids"]
    largest = max(max(ids, default=0) for ids in sequences)
    if largest >= vocab_size:
        raise DataError(
            f"the tokenizer gives the tools ids up to {largest}, and the model's embedding has {vocab_size} rows: the "
            "tokenizer knows tools that this checkpoint does not. Use the tokenizer saved beside the checkpoint",
            token_id=largest,
            num_rows=vocab_size,
        )
    return TokenTrie(sequences, end_id)


def spellings(tokenizer: Any, texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the ids of some texts, for comparing them with another tokenizer's."""
    return {text: tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts}


def _tool_tokens(tokenizer: Any, candidates: Sequence[str]) -> list[list[int]]:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    missing = [text for text in candidates if text not in vocabulary]
    if missing:
        raise DataError(
            f"the tokenizer lacks {len(missing)} of the {len(candidates)} tool tokens, the first is {missing[0]}: use "
            "a ToolGen checkpoint with its own tokenizer, or the --indexing and data that it was trained with",
            missing=missing,
        )
    return [[vocabulary[text]] for text in candidates]
