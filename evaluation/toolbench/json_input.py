"""Reads JSON and text that somebody else wrote: a reply, a cache, a query file, the records of an earlier run.

Whatever is in it, the outcome is data or one error that says what is wrong: bytes that are not text, texts
that are not JSON, nesting that Python cannot walk, pipes that never end.
"""

from __future__ import annotations

import codecs
import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

# Deeper data could be parsed by some versions of Python and then neither copied, printed nor written.
MAX_DEPTH = 200

_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class JsonError(ValueError):
    """Says in a few words on one line, without the content, why JSON cannot be used."""


def parse_json(
    content: bytes | str, *, strict: bool = True, finite: bool = False, max_depth: int | None = MAX_DEPTH
) -> Any:
    """Return the data in `content`, of any JSON type. JsonError for what is not JSON or is nested too deep.

    Bytes are UTF-8, or what their byte order mark says. `strict` False allows control characters in strings;
    `finite` refuses NaN, infinities and what float makes of 1e999. Without `max_depth` data may be as deep as this
    Python reads: trees of answers are, by two levels a step, and their readers are ready for it.
    """
    try:
        text = decode(content, "surrogatepass").removeprefix("\ufeff")
        number = _finite if finite else None
        data = json.loads(text, strict=strict, parse_float=number, parse_constant=number)
    except RecursionError:
        limit = "can be read" if max_depth is None else f"{max_depth} levels"
        raise JsonError(f"nested deeper than {limit}") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValueError as error:  # bytes that are not text, a number of more digits than Python converts
        raise JsonError(f"not JSON: {' '.join(str(error).split())[:200]}") from error
    if max_depth is not None and _is_deeper(data, max_depth):
        raise JsonError(f"nested deeper than {max_depth} levels")
    return data


def parse_object(content: bytes | str) -> dict[str, Any]:
    """Return the JSON object in `content`. JsonError for anything else."""
    data = parse_json(content)
    if not isinstance(data, dict):
        raise JsonError(f"a JSON {type(data).__name__} where an object is expected")
    return data


def read_json(path: Path, *, max_depth: int | None = MAX_DEPTH) -> Any:
    """Return the data in the file at `path`. OSError where there is no such file, JsonError as `parse_json`."""
    return parse_json(read_file(path), max_depth=max_depth)


def read_text(path: Path) -> str:
    """Return the text in the file at `path`, without its byte order mark. OSError, UnicodeDecodeError."""
    return decode(read_file(path)).removeprefix("\ufeff")


def read_file(path: Path) -> bytes:
    """Return the bytes of the file at `path`. OSError also for a pipe or a device, which could block for ever."""
    try:
        # Opening a pipe waits for its writer, unless told not to.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:  # a NUL or half a surrogate pair in its name
        raise FileNotFoundError(errno.ENOENT, f"no file can have this name ({error})", str(path)) from error
    with open(descriptor, "rb") as file:
        check_regular(descriptor, path)
        return file.read()


def check_regular(descriptor: int, path: Path) -> None:
    """Raise OSError unless what is open is a file with an end."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def decode(content: bytes | str, errors: str = "strict") -> str:
    """Return bytes as text: UTF-8 unless a byte order mark says UTF-16. UnicodeDecodeError."""
    if isinstance(content, str):
        return content
    return content.decode("utf-16" if content.startswith(_UTF_16_MARKS) else "utf-8-sig", errors)


def whole_text(text: str) -> str:
    """Return `text` as every encoder takes it: a half of a surrogate pair, which JSON can hold, becomes U+FFFD.

    >>> whole_text("cut \\ud83d, whole \\ud83d\\ude00") == "cut \\ufffd, whole \\U0001f600"
    True
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number} is not finite")
    return value


def _is_deeper(data: Any, max_depth: int) -> bool:
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(max_depth):
        if not level:
            return False
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
    return bool(level)
