"""Writes conversations in the layout of the tokenizer's own chat template, whatever that is.

A template is a program: some refuse a system message or two turns of the same role in a row, some add what nobody
wrote. What it does is found out by having it write short conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.toolgen.chat_format import OWN_TEMPLATE, ChatFormat, Message, chat_format
from evaluation.toolbench.json_input import whole_text

_ASKED, _SAID, _TOLD = "the question", "the reply", "the instructions"


def format_for(template: str, tokenizer: Any) -> ChatFormat:
    """Return the format of that name, "auto" being the tokenizer's own. ConfigError."""
    return TemplateFormat(tokenizer) if template == OWN_TEMPLATE else chat_format(template)


class TemplateFormat(ChatFormat):
    """Holds a tokenizer whose `apply_chat_template` writes the conversations. Safe to use from several threads.

    Where the template refuses them, turns of one role in a row are joined by a line break, and the system message
    goes before the first question. ConfigError for a tokenizer without a template, or one whose end of a turn is no
    token; DataError for a template that writes no conversation at all.
    """

    name = OWN_TEMPLATE
    user = "user"
    assistant = "assistant"
    default_system = ""
    has_all_specials = True

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError(
                "the tokenizer has no chat template of its own: choose --template as the checkpoint was trained"
            )
        self._tokenizer = tokenizer
        question, reply = {"role": "user", "content": _ASKED}, {"role": "assistant", "content": _SAID}
        self._joins_turns = not self._can_write([question, reply, reply, question, question])
        told = {"role": "system", "content": _TOLD}
        self._takes_system = self._can_write([told, question]) and _TOLD in self._write([told, question])
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        asked = self._write([question])
        opened = self._write([question], opens_turn=True).removeprefix(asked)
        closed = self._write([question, reply]).rpartition(_SAID)[2]
        self.turn_token = next((token for token in added if opened.startswith(token)), "")
        self.end_token = _first_of(added, closed) or tokenizer.eos_token or ""
        if not self.end_token:
            raise ConfigError(
                "the tokenizer's chat template ends a turn without a token: --template auto cannot be used"
            )

    def pieces(self, system: str, messages: Sequence[Message]) -> list[str]:
        """Return the prompt, cut before every turn token. DataError where the template refuses the conversation."""
        is_open = bool(messages) and messages[-1][0] == self.assistant and not messages[-1][1]
        turns = [{"role": role, "content": text or ""} for role, text in (messages[:-1] if is_open else messages)]
        if system and self._takes_system:
            turns.insert(0, {"role": "system", "content": system})
        elif system:
            turns.insert(0, {"role": self.user, "content": system})
        if self._joins_turns or (system and not self._takes_system):
            turns = _joined(turns)
        text = self._write(turns, opens_turn=is_open)
        if not self.turn_token:
            return [text]
        first, *rest = text.split(self.turn_token)
        return [piece for piece in (first, *(self.turn_token + part for part in rest)) if piece]

    def _write(self, turns: Sequence[dict[str, str]], *, opens_turn: bool = False) -> str:
        whole = [{**turn, "content": whole_text(turn["content"])} for turn in turns]
        try:
            return str(self._tokenizer.apply_chat_template(whole, tokenize=False, add_generation_prompt=opens_turn))
        except Exception as error:  # templates raise what they like
            what = " ".join(str(error).split())[:200].rstrip(".")
            raise DataError(
                f"the tokenizer's chat template refuses this conversation: {what}. Where it refuses every one, choose "
                "--template as the checkpoint was trained"
            ) from error

    def _can_write(self, turns: Sequence[dict[str, str]]) -> bool:
        try:
            self._write(turns)
        except DataError:
            return False
        return True


def _first_of(tokens: Sequence[str], text: str) -> str | None:
    """Return the token that comes first in `text`, of two at the same place the longer one."""
    found = [(text.index(token), -len(token), token) for token in tokens if token in text]
    return min(found)[2] if found else None


def _joined(turns: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Turns of one role in a row as one."""
    return [
        {"role": role, "content": "\n".join(turn["content"] for turn in group)}
        for role, group in groupby(turns, key=lambda turn: turn["role"])
    ]
