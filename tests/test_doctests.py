"""Examples in docstrings say what the code does."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.helpers.pipeline import ROOT

NEEDS = {"triton_decode": "triton", "triton_split": "triton"}  # modules that cannot be imported everywhere


def modules_with_examples() -> list[str]:
    paths = [path for folder in ("evaluation", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [_name(path) for path in paths if ">>> " in path.read_text(encoding="utf-8")]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_are_true(name):
    needed = NEEDS.get(name.rpartition(".")[2])
    if needed is not None:
        pytest.importorskip(needed)
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
