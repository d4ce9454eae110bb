"""Writes conversations as the text, and the token ids, that a model was trained to read.

Two layouts are all that ToolGen's checkpoints use; any other is the tokenizer's own (`template_format.py`). The
texts are those of the published training runs to the byte; in particular Llama-3 conversations begin with
`<|begin_of_text|>` although the tokenizer puts its own in front, so a model sees it twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.json_input import whole_text

# Distinct pieces of conversation kept as ids. A turn is asked for in every later prompt of its conversation:
# 64 conversations of 16 steps with 6 turns each, and room to spare.
_CACHED_PIECES = 8192


Message = tuple[str, str | None]  # role and text; without a text the turn is left open, for the model to write


class ChatFormat(ABC):
    """Says how one template writes a conversation."""

    name: str
    end_token: str  # closes a turn, and so ends a generation
    turn_token: str  # opens every piece of a prompt but the first
    user: str
    assistant: str
    default_system: str
    has_all_specials = False  # whether the text itself has all special tokens, and the tokenizer is to add none

    @abstractmethod
    def pieces(self, system: str, messages: Sequence[Message]) -> list[str]:
        """Return the prompt in parts, which are joined without anything between them."""


class TurnFormat(ChatFormat):
    """Writes a turn alike wherever it stands."""

    @abstractmethod
    def opening(self, system: str) -> str:
        """Return the start of a conversation up to its first turn."""

    @abstractmethod
    def turn(self, role: str, text: str | None) -> str:
        """Return one turn. None or an empty text leaves it open, for the model to write."""

    def pieces(self, system: str, messages: Sequence[Message]) -> list[str]:
        return [self.opening(system), *(self.turn(role, text) for role, text in messages)]


class Llama3Format(TurnFormat):
    name = "llama-3"
    end_token = "<|eot_id|>"
    turn_token = "<|start_header_id|>"
    user = "user"
    assistant = "assistant"
    default_system = ""

    def opening(self, system: str) -> str:
        begin = "<|begin_of_text|>"
        return f"{begin}{self._header('system')}{system}{self.end_token}" if system else begin

    def turn(self, role: str, text: str | None) -> str:
        return f"{self._header(role)}{text.strip()}{self.end_token}" if text else self._header(role)

    def _header(self, role: str) -> str:
        return f"{self.turn_token}{role}<|end_header_id|>\n\n"


class QwenFormat(TurnFormat):
    name = "qwen-7b-chat"
    end_token = "<|im_end|>"
    turn_token = "<|im_start|>"
    user = "<|im_start|>user"
    assistant = "<|im_start|>assistant"
    default_system = "You are a helpful assistant."

    def opening(self, system: str) -> str:
        return f"{self.turn_token}system\n{system}{self.end_token}\n"

    def turn(self, role: str, text: str | None) -> str:
        return f"{role}\n{text}{self.end_token}\n" if text else f"{role}\n"


_FORMATS: dict[str, TurnFormat] = {form.name: form for form in (Llama3Format(), QwenFormat())}
OWN_TEMPLATE = "auto"  # the tokenizer's; see `template_format`


def check_template(template: str) -> None:
    """Raise ConfigError for an unknown template."""
    if template != OWN_TEMPLATE:
        chat_format(template)


def chat_format(template: str) -> TurnFormat:
    """Return the format of that name; ConfigError for any other."""
    if template not in _FORMATS:
        raise ConfigError(
            f"unknown template {template!r}: use {' or '.join(_FORMATS)}, as the checkpoint was trained, or "
            f"{OWN_TEMPLATE} for the tokenizer's own"
        )
    return _FORMATS[template]


class Conversation:
    """Holds a system message and turns. Method and attribute names are those of FastChat's conversations."""

    def __init__(self, form: ChatFormat) -> None:
        self.format = form
        self.roles = (form.user, form.assistant)
        self.system_message = form.default_system
        self.messages: list[Message] = []

    def set_system_message(self, text: str) -> None:
        self.system_message = text

    def append_message(self, role: str, text: str | None) -> None:
        self.messages.append((role, text))

    def pieces(self) -> list[str]:
        """Return the prompt in parts, each of which begins with a marker token of the format."""
        return self.format.pieces(self.system_message, self.messages)

    def get_prompt(self) -> str:
        return "".join(self.pieces())

    def copy(self) -> Conversation:
        twin = Conversation(self.format)
        twin.system_message = self.system_message
        twin.messages = list(self.messages)
        return twin


class PromptEncoder:
    """Makes a prompt's token ids: exactly `tokenizer(text)`'s, special tokens included unless the text has all.

    Fast tokenizers look for added tokens first and treat the text between two of them on its own. A piece
    that begins with such a token therefore has the same ids wherever it stands, and the ids of the turns
    that a conversation already had need not be computed again. Where the tokenizer does not warrant this,
    every prompt is tokenized whole. Halves of surrogate pairs, which no tokenizer takes, are read as U+FFFD.
    Safe to call from several threads.
    """

    def __init__(self, tokenizer: Any, form: ChatFormat) -> None:
        self._tokenizer = tokenizer
        self._has_all_specials = form.has_all_specials
        self.splits_turns = _splits_before(tokenizer, form.turn_token)
        if self.splits_turns:
            self._before, self._after = ([], []) if form.has_all_specials else _special_ids_around(tokenizer)
            self._piece_ids = lru_cache(maxsize=_CACHED_PIECES)(self._encode_piece)

    def encode(self, pieces: Sequence[str]) -> list[int]:
        """Return the ids of the joined pieces; every piece but the first begins with the format's turn token."""
        if not self.splits_turns:
            return self.encode_bare("".join(pieces)) if self._has_all_specials else self.encode_text("".join(pieces))
        ids = list(self._before)
        for piece in pieces:
            ids.extend(self._piece_ids(piece))
        ids.extend(self._after)
        return ids

    def encode_text(self, text: str) -> list[int]:
        """Return ids of any text, with the tokenizer's special tokens around it."""
        return list(self._tokenizer(whole_text(text))["input_ids"])

    def encode_bare(self, text: str) -> list[int]:
        """Return ids of any text, with nothing around it."""
        return list(self._tokenizer(whole_text(text), add_special_tokens=False)["input_ids"])

    def vocabulary(self) -> dict[str, int]:
        """Return the id of every token, added ones included."""
        return dict(self._tokenizer.get_vocab())

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens and every blank kept: cleaned-up blanks change the names of
        tools.
        """
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.backend_tokenizer.encode(whole_text(piece), add_special_tokens=False).ids)


def _splits_before(tokenizer: Any, marker: str) -> bool:
    """Return whether a text may be cut before every `marker` and tokenized part by part with the same result."""
    if not getattr(tokenizer, "is_fast", False):
        return False
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    if marker not in added:
        return False
    # lstrip would reach for blanks before the marker, and a normalized token is only found after the text
    # around it has been changed. single_word looks at the neighbouring character, and a longer token with the
    # marker inside could begin before the cut.
    return not (
        added[marker].lstrip
        or added[marker].normalized
        or any(token.single_word or marker in content[1:] for content, token in added.items())
    )


def _special_ids_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return what the tokenizer puts before and after any text."""
    probe = "x"
    bare = list(tokenizer(probe, add_special_tokens=False)["input_ids"])
    full = list(tokenizer(probe)["input_ids"])
    before = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:before], full[before + len(bare) :]
