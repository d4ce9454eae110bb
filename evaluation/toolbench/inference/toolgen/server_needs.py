"""Says what an agent's language asks of a generation server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.toolbench.inference.engine.constraint import Constraint, TokenSet
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.toolgen.language import ToolLanguage

_SPELT_ACTIONS = 500  # of several tokens each, compared with the server's: the tokenizer either is ours or is not


def needs_of(model_path: str, config: Any, language: ToolLanguage) -> Needs:
    """Return the needs of a run with this checkpoint, its `config` and a language over its tokenizer.

    All tool tokens are compared with the server's; of actions of several tokens some, spread over the catalog.
    """
    text_config = config.get_text_config()
    actions = _spread(language.catalog.actions, language)
    return Needs(
        model=model_path,
        vocab_size=int(text_config.vocab_size),
        max_length=min(language.options.max_sequence_length, int(text_config.max_position_embeddings)),
        spellings={action: language.actions.ids_of(action) for action in actions},
        separator=(language.form.end_token, language.actions.end_id),
        largest_set=_largest_set(language.all_actions.constraint) if language.options.restrict_actions == "all" else 0,
    )


def _spread(actions: Sequence[str], language: ToolLanguage) -> Sequence[str]:
    if language.catalog.indexing == "Atomic":
        return actions
    return actions[:: max(1, len(actions) // _SPELT_ACTIONS)]


def _largest_set(constraint: Constraint) -> int:
    """Return the most ids that are allowed at once; in a tree an end token may stand beside the children."""
    if isinstance(constraint, TokenSet):
        return len(constraint)
    return int(constraint.child_start.diff().max()) + 1
