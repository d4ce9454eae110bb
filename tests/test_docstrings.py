"""Docstrings begin with what the thing does, and reading orders are whole (CONTRIBUTING.md, Style)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLBENCH = ROOT / "evaluation/toolbench"
FOLDERS = sorted({path.parent for path in TOOLBENCH.rglob("*.py")} - {TOOLBENCH})
SOURCES = [path for folder in ("evaluation", "benchmarks", "scripts") for path in (ROOT / folder).rglob("*.py")]

# Articles, determiners, pronouns, prepositions, question words and conjunctions. English has few of them and makes no
# new ones, and none is a verb. A bare noun ("Pages of a sequence") passes: to see that it is one takes a dictionary.
WORDS = """
    a an the this that these those its their our such every each any all both some no none one two several other it they
    there nothing everything something who whose whom which what where when why how whether of for from in on at by with
    without within as under between behind beside after before until while if since and or but
"""
NO_VERBS = frozenset(WORDS.split())


def begins_with_what_it_does(docstring: str) -> bool:
    return docstring.split()[0].rstrip(",:;").lower() not in NO_VERBS


def ends_its_first_paragraph(docstring: str) -> bool:
    first = docstring.partition("\n\n")[0]
    return first.startswith(">>> ") or first.rstrip(")").endswith((".", ":", "?"))


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, docstring) of the module and of everything in it that has one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node.body[0].lineno, docstring


@pytest.mark.parametrize("holds", [begins_with_what_it_does, ends_its_first_paragraph])
def test_every_docstring_keeps_the_rule(holds):
    broken = [
        f"{path.relative_to(ROOT)}:{line}: {docstring.splitlines()[0]}"
        for path in [*SOURCES, ROOT / "test_multi_gpu.py"]
        for line, docstring in docstrings(path.read_text(encoding="utf-8"))
        if not holds(docstring)
    ]
    assert broken == []


@pytest.mark.parametrize("phrase", ["The pages of a sequence.", "How many fit.", "Of the card, by anybody."])
def test_a_phrase_without_a_verb_in_front_is_found(phrase):
    [(line, docstring)] = docstrings(f'class Pool:\n    """{phrase}"""')
    assert (line, begins_with_what_it_does(docstring)) == (2, False)


def test_a_first_paragraph_without_an_end_is_found():
    assert not ends_its_first_paragraph("Return (num_pages, page_size)\n\nThe rest ends.")
    assert ends_its_first_paragraph("Return the pages, from\nfirst to last.")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(TOOLBENCH)))
def test_a_reading_order_names_every_module_of_its_folder(folder):
    """It stands in the folder's `__init__.py`, or in docs/architecture.md for folders that must not have one."""
    own = folder / "__init__.py"
    text = (own if own.exists() else ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert [path.stem for path in folder.glob("[!_]*.py") if not re.search(rf"\b{path.stem}\b", text)] == []
