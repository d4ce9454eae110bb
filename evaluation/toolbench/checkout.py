"""Finds known texts in the Python files of a ToolGen checkout, without running any of it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

# The file that has them all comes first. The rest of the checkout is only read for what it lacks.
_LIKELY_FILE = "OpenAgent/agents/toolgen/toolgen.py"
_SOURCE_FOLDERS = ("OpenAgent", "evaluation", "training", "scripts", "toolbench")  # the last one is StableToolBench's


def repository_root() -> Path:
    """Return the folder this package was unpacked in: a ToolGen checkout, or our own tree."""
    return Path(__file__).resolve().parents[2]


def find_texts(root: Path, digests: set[str]) -> dict[str, str]:
    """Find string constants below `root` by SHA-256 prefix (16 hex digits), for those of `digests` that occur.

    Files are parsed, never imported or executed. One that cannot be read or parsed is passed over.
    """
    return dict(_find_texts(root, frozenset(digests)))


@lru_cache(maxsize=16)
def _find_texts(root: Path, digests: frozenset[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for path in _python_files(root):
        for text in string_constants(path):
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            if digest in digests:
                found.setdefault(digest, text)
        if len(found) == len(digests):
            break
    return tuple(found.items())


def _python_files(root: Path) -> Iterator[Path]:
    likely = root / _LIKELY_FILE
    if likely.is_file():
        yield likely
    for folder in _SOURCE_FOLDERS:
        yield from (path for path in sorted((root / folder).rglob("*.py")) if path != likely)


def string_constants(path: Path) -> list[str]:
    """Return the texts in a Python file, which is parsed and never run; none where it cannot be read or parsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
