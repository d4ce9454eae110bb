"""Holds the texts around a conversation: system prompts, the documentation of Finish, and the fixed hints.

The published checkpoints were trained with ToolGen's own system prompt, which belongs to its checkout and
not to this package. It is looked up there (`checkout.py`); without a checkout, or with one whose texts have
changed, our own wording stands in, with which the demo model is trained.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluation.toolbench.checkout import find_texts
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.json_input import read_text

Role = Literal["user", "assistant"]

DOCUMENTATION_HINT = "Please give the input. Here is the documentation: "
NO_DOCUMENTATION = "No documentation, try again."
RETRIEVAL_HINT = "Please generate relevant actions."
DESCRIPTIONS_HINT = "Here are descriptions: "
PLANNING_PREFIX = "I am using one of the following tools: {actions}."

OWN_SYSTEM_PROMPT = """\
You answer a request with the help of tools, one step at a time.

Every step has three parts:
1. Think: say briefly what is known, what is missing, and which tool can supply it.
2. Act: when asked for the action, reply with the token of exactly one tool.
3. Call: when shown the documentation of that tool, reply with its input as one JSON object. Fill in every \
required parameter with values from the request or from earlier results; never make values up.

The result of the call follows, and the next step begins. If a call fails, correct the input or choose another \
tool. Once the results answer the request, act with {finish} and hand over a complete answer. If no tool can \
help, act with {finish} and give up."""

OWN_SYSTEM_PROMPT_TOKENS = OWN_SYSTEM_PROMPT + "\n\nOnly these actions can be used: {actions}"

OWN_FINISH_DESCRIPTION = (
    "Ends the task. Set return_type to give_answer and put the complete answer for the user into final_answer, "
    "or set return_type to give_up_and_restart when the task cannot be done from here."
)


@dataclass(frozen=True)
class PromptStyle:
    """Says where the wording of a step in progress and of the same step as history may differ.

    `upstream` has the bytes of ToolGen's inference code, with which its published numbers were made.
    `trained` has those of its training data: every prompt of a conversation is a prefix of the next one.
    """

    name: str
    hint: str  # asks for the action of the step in progress
    history_hint: str  # the same in the steps before
    documentation_role: Role  # who says the documentation in the step in progress; the user does in history
    always_hints: bool  # history asks for the action even where there was no thought


LAYOUTS = {
    layout.name: layout
    for layout in (
        PromptStyle("upstream", "Generate the action.", "Please generate the action.", "assistant", False),
        PromptStyle("trained", "Generate the action.", "Generate the action.", "user", True),
    )
}


def prompt_layout(name: str) -> PromptStyle:
    """Return the layout of that name; ConfigError for any other."""
    if name not in LAYOUTS:
        raise ConfigError(f"unknown prompt layout {name!r}: use {' or '.join(LAYOUTS)}")
    return LAYOUTS[name]


@dataclass(frozen=True)
class PromptTexts:
    """Holds system prompts with a slot `{finish}` (and `{actions}`), and what Finish does.

    `own` lists, in words, the texts that are this package's wording and not the checkpoint's.
    """

    system: str = OWN_SYSTEM_PROMPT
    system_tokens: str = OWN_SYSTEM_PROMPT_TOKENS
    finish_description: str = OWN_FINISH_DESCRIPTION
    own: tuple[str, ...] = ("the system prompt", "the documentation of Finish")

    def system_prompt(self, finish: str, actions: list[str] | None = None) -> str:
        """Return the system prompt filled in; with `actions`, the one that lists the only ones allowed."""
        if actions is None:
            return self.system.replace("{finish}", finish)
        return self.system_tokens.replace("{finish}", finish).replace("{actions}", str(actions))


@dataclass(frozen=True)
class TextDigests:
    """Recognises the checkout's texts: by the first 16 hex digits of the SHA-256 of their UTF-8 bytes."""

    system_plain: str = "c710838f509b3a04"  # <<Finish>> filled in, lines begin in column 0
    system_indented: str = "c08b6ce31f60e867"  # with {finish}, every line but the first indented by 4 blanks
    system_tokens: str = "471bf0409bdfb8c6"  # with {finish} and {actions}
    finish_description: str = "949740fbd807a4ae"


def load_prompt_texts(
    *,
    indented: bool,
    root: Path,
    system_prompt_file: str | Path | None = None,
    digests: TextDigests | None = None,
) -> PromptTexts:
    """Return the checkout's texts where `root` has them, ours for the others; `system_prompt_file` goes first.

    `indented` asks for the variant of ToolGen (its checkpoints with several tokens an action), otherwise
    that of ToolGenAtomic. ConfigError when the file cannot be read.
    """
    digests = digests or TextDigests()
    found = find_texts(root, set(vars(digests).values()))
    system = found.get(digests.system_indented) if indented else _plain_system_prompt(found, digests)
    if system_prompt_file is not None:
        system = _read_prompt_file(Path(system_prompt_file))
    chosen: dict[str, Any] = {
        "system": system,
        "system_tokens": found.get(digests.system_tokens),
        "finish_description": found.get(digests.finish_description),
    }
    own = [words for words, key in _NAMED_TEXTS if chosen[key] is None]
    return PromptTexts(own=tuple(own), **{key: text for key, text in chosen.items() if text is not None})


# The prompt that lists allowed actions is an option of `parse` that nothing asks for by default, so nobody is
# told of its absence.
_NAMED_TEXTS = (("the system prompt", "system"), ("the documentation of Finish", "finish_description"))


def text_digest(text: str) -> str:
    """Return what `TextDigests` compares."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _plain_system_prompt(found: dict[str, str], digests: TextDigests) -> str | None:
    """Return the unindented prompt, itself or made from the indented one and checked against its own digest."""
    if digests.system_plain in found:
        return found[digests.system_plain]
    indented = found.get(digests.system_indented)
    if indented is None:
        return None
    plain = re.sub(r"\n {4}", "\n", indented).replace("{finish}", "<<Finish>>")
    return plain if text_digest(plain) == digests.system_plain else None


def _read_prompt_file(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the system prompt file {path}: {error}. It is a UTF-8 text file") from error
