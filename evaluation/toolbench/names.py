"""Writes names of tools, APIs and categories as ToolBench does, and knows which API a name stands for."""

from __future__ import annotations

import os
import re

_NOT_IN_A_NAME = re.compile(r"[^\u4e00-\u9fa5a-zA-Z0-9_^]")
_UNDERSCORES = re.compile(r"_+")
_PYTHON_WORDS = frozenset({"from", "class", "return", "false", "true", "id", "and"})
_MAX_NAME_BYTES = 255  # of one path component, on every file system in use
_LONGEST_NAME = 64  # characters; OpenAI's limit on function names, and ToolBench keeps the end of the name


def standardize(name: str) -> str:
    """Return `name` in lower case with everything but letters, digits, CJK, `_` and `^` folded into single `_`.

    >>> standardize("Driver's  License"), standardize("7 Leagues"), standardize("A^B"), standardize("///")
    ('driver_s_license', 'get_7_leagues', 'a^b', '')
    """
    folded = _UNDERSCORES.sub("_", _NOT_IN_A_NAME.sub("_", name)).lower().strip("_")
    return f"get_{folded}" if folded[:1].isdigit() else folded


def ascii_folded(text: str) -> str:
    """Return `text` in ASCII, as tool tokens are: accents are taken off, other scripts are transcribed.

    >>> ascii_folded("<<Café Finder&&Find Café>>")
    '<<Cafe Finder&&Find Cafe>>'
    """
    from unidecode import unidecode  # a package: not for --help

    folded: str = unidecode(text)
    return folded


def change_name(name: str) -> str:
    """Return `name`, with `is_` before the few words that cannot be argument names in Python.

    >>> change_name("class"), change_name("classes")
    ('is_class', 'classes')
    """
    return f"is_{name}" if name in _PYTHON_WORDS else name


def get_toolbench_name(tool_name: str, api_name: str) -> str:
    """Return the function name of an API: the last 64 characters of `<api>_for_<tool>`.

    Not unique: of the 46,984 published APIs, 406 share 154 names (see `ActionName`).

    >>> get_toolbench_name("Medium", "/search/topics")
    'search_topics_for_medium'
    """
    return f"{change_name(standardize(api_name))}_for_{standardize(tool_name)}"[-_LONGEST_NAME:]


def standardize_category(category: str) -> str:
    """Return the folder name of a category. Three underscores become two: each pair is replaced once.

    >>> standardize_category("News, Media")
    'News_Media'
    """
    return category.replace(" ", "_").replace(",", "_").replace("/", "_").replace("__", "_")


class ActionName(str):
    """Remembers which API a ToolBench name meant, where several APIs share the name.

    Equal to, hashed as and written to JSON as the plain string. `tool_name` and `api_name` are those of
    `tools.json`, not standardized.
    """

    tool_name: str
    api_name: str

    def __new__(cls, name: str, tool_name: str, api_name: str) -> ActionName:
        self = super().__new__(cls, name)
        self.tool_name = tool_name
        self.api_name = api_name
        return self

    @classmethod
    def of(cls, tool_name: str, api_name: str) -> ActionName:
        """Return the name of this API."""
        return cls(get_toolbench_name(tool_name, api_name), tool_name, api_name)

    def __getnewargs__(self) -> tuple[str, str, str]:  # type: ignore[override]  # copy and pickle call __new__ with it
        return str(self), self.tool_name, self.api_name


def is_plain_file_name(name: str) -> bool:
    """Return whether `name`, which comes from outside, can be one component of a path and leads nowhere else."""
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        return False
    try:
        return len(os.fsencode(name)) <= _MAX_NAME_BYTES
    except UnicodeEncodeError:  # half a surrogate pair: legal in JSON, no file name
        return False
