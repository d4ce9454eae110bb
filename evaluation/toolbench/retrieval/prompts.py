"""Writes a query as the token ids that a retriever was trained on, and its answer as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.toolgen.chat_format import Conversation, chat_format


class RetrievalPrompts:
    """Writes one user turn with the bare query and an open assistant turn, in the layout `template`.

    Two things differ from an agent's prompts: no system message is set (`llama-3` has none then, `qwen-7b-chat` its
    own), and the tokenizer adds nothing in front, so `llama-3` has one `<|begin_of_text|>`.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        self._tokenizer = tokenizer
        self._format = chat_format(template)
        vocabulary = tokenizer.get_vocab()
        if self._format.end_token not in vocabulary:
            raise DataError(
                f"the tokenizer has no token {self._format.end_token}, which ends a turn in the template {template!r}: "
                "choose the template that the checkpoint was trained with"
            )
        self.end_id: int = vocabulary[self._format.end_token]

    def text(self, query: str) -> str:
        conversation = Conversation(self._format)
        conversation.append_message(conversation.roles[0], query)
        conversation.append_message(conversation.roles[1], None)
        return conversation.get_prompt()

    def ids(self, query: str) -> list[int]:
        return self.bare_ids(self.text(query))

    def bare_ids(self, text: str) -> list[int]:
        """Return the ids of `text` with nothing around them; markers and tool tokens in it are single ids."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, token_ids: Sequence[int]) -> str:
        """Return what the model named: its ids up to the end token, without special tokens, every blank kept."""
        ids = list(token_ids)
        if self.end_id in ids:
            ids = ids[: ids.index(self.end_id)]
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
