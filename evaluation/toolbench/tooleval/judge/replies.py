"""Reads a verdict from whatever a judge said. Pure.

A call of the function is read first, then JSON anywhere in the text, then the text's words. Words are read
only where they say one thing: "not solved" or "Solved or Unsolved" is not a verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation.toolbench.chat_client.replies import Said
from evaluation.toolbench.tooleval.judge.checks import REASON_KEY, Check

_NEGATION = re.compile(r"(?:\bnot|n't|\bnever|\bneither|\bnor|\bno)\W+(?:\w+\W+)?$", re.IGNORECASE)
_LONGEST_REASON = 4000  # characters
_LONGEST_TEXT = 20_000  # characters that are read, from the end: a thousand tokens are asked for
_REACH = 100  # characters before a word among which a negation of it is looked for


def read_verdict(said: Said, check: Check) -> tuple[str | None, str]:
    """Return (verdict, reason). The verdict is one of the check's words, or None where none can be read."""
    text, called = said.conclusion[-_LONGEST_TEXT:], (said.called or "")[-_LONGEST_TEXT:]
    for source in filter(None, (called, text)):
        for values in _objects(source):
            verdict = _word_of(values.get(check.key), check.words)
            if verdict is not None:
                return verdict, str(values.get(REASON_KEY) or text)[:_LONGEST_REASON]
    # A call that was cut may have its verdict all the same; the reason comes after it.
    verdict = _labelled(called, check.words, check.key) or read_words(text, check.words, label=check.key)
    return verdict, (text or called)[:_LONGEST_REASON]


def read_words(text: str, words: Sequence[str], *, label: str) -> str | None:
    """Return the one word that `text` says: behind the label, else in its first line, else anywhere.

    >>> words = ("Unsure", "Unsolved", "Solved")
    >>> read_words("Answer Status: **Unsolved**. Solved only in part.", words, label="answer_status")
    'Unsolved'
    >>> read_words("The task was not solved.", words, label="answer_status")
    """
    labelled = _labelled(text, words, label)
    if labelled is not None:
        return labelled
    lines = text.strip().splitlines()
    for part in (lines[0] if lines else "", text):
        found = {_word_of(match[0], words) for match in _mentions(part, words)}
        if len(found) == 1 and not any(_is_negated(part, match.start()) for match in _mentions(part, words)):
            return found.pop()
    return None


def _is_negated(text: str, start: int) -> bool:
    """Say whether what begins at `start` is denied by what stands before it."""
    return _NEGATION.search(text, max(0, start - _REACH), start) is not None


def _labelled(text: str, words: Sequence[str], label: str) -> str | None:
    """Return the word behind the label, however that is written."""
    spelled = r"[\W_]*".join(map(re.escape, re.split(r"[\W_]+", label)))
    found = re.search(rf"{spelled}[\W_]*?(?:\bis\b[\W_]*)?\b({_any_of(words)})\b", text, re.IGNORECASE)
    return _word_of(found[1], words) if found else None


def _mentions(text: str, words: Sequence[str]) -> Iterator[re.Match[str]]:
    return re.finditer(rf"\b(?:{_any_of(words)})\b", text, re.IGNORECASE)


def _any_of(words: Sequence[str]) -> str:
    return "|".join(map(re.escape, words))


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects in `text`, outermost ones only."""
    decoder = json.JSONDecoder(strict=False)
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except RecursionError:  # no verdict is that deep, and from each of its braces it would be tried again
            return
        except ValueError:
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _word_of(value: Any, words: Sequence[str]) -> str | None:
    """Return the allowed word that `value` is, whatever its case; numbers may be written as 1, 1.0 or "1"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    said = str(value).strip().lower()
    return next((word for word in words if word.lower() == said), None)
