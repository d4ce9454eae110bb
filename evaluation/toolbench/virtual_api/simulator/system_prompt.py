"""Finds MirrorAPI's system prompt in a checkout of StableToolBench, or stands in with our own wording."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.checkout import string_constants
from evaluation.toolbench.inference.errors import ConfigError

# Of the prompt that MirrorAPI was trained with; recognised by its digest, and never copied here.
PUBLISHED = "8cdc5f128160a2146e872e815cf15c81e73c05670ddd74fd649e28fcffef06ec"
_FILE = "server/system_prompts.py"

OWN_PROMPT = """\
You stand in for a web API. You are given the documentation of one API and the arguments of one call to it. Reply \
with what the API returns to this call, as one JSON object and nothing else:
{"error": "", "response": ...}
"error" is empty, unless the call cannot be served as it is: then it says which argument is wrong and what is expected.
"response" is what the API sends back: concrete names, numbers and dates that fit the arguments and each other, with \
the fields that the documentation promises and in their layout, as complete as those of a real service.
"""


@dataclass(frozen=True)
class SystemPrompt:
    """Holds the text. `is_own`: this package's wording, which MirrorAPI models have not been trained with."""

    text: str
    is_own: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def load_system_prompt(named: Path | None, likely: Iterable[Path]) -> SystemPrompt:
    """Return the published prompt from a checkout: the one that is `named`, else any of the `likely` ones.

    ConfigError if the named one does not have it; our own wording if no other has it.
    """
    for checkout in likely if named is None else [named]:
        for text in string_constants(checkout / _FILE):
            prompt = SystemPrompt(text, is_own=False)
            if prompt.sha256 == PUBLISHED:
                return prompt
    if named is not None:
        raise ConfigError(
            f"SIMULATOR_PROMPTS (--simulator_prompts) {named} has no {_FILE} with MirrorAPI's system prompt: name a "
            "checkout of StableToolBench"
        )
    return SystemPrompt(OWN_PROMPT, is_own=True)
