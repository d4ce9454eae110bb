"""Imports run one way: every room imports lower rooms only, in functions and for type checkers too."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INFERENCE = "evaluation.toolbench.inference"

# From low to high; a room is a package or a module. A new folder comes above everything that it imports.
ROOMS = (
    f"{INFERENCE}.errors",
    f"{INFERENCE}.memory_shares",
    f"{INFERENCE}.process_watch",
    f"{INFERENCE}.command_line",
    f"{INFERENCE}.finding",
    "evaluation.toolbench.names",
    "evaluation.toolbench.json_input",
    "evaluation.toolbench.time_limit",
    "evaluation.toolbench.file_lock",
    f"{INFERENCE}.host_memory",
    "evaluation.toolbench.checkout",
    "evaluation.toolbench.http_client",
    "evaluation.toolbench.chat_client",
    "evaluation.toolbench.virtual_api",
    f"{INFERENCE}.records",
    f"{INFERENCE}.engine.kernels",
    f"{INFERENCE}.engine",
    f"{INFERENCE}.multi_gpu",
    f"{INFERENCE}.toolgen",
    f"{INFERENCE}.LLM",
    f"{INFERENCE}.Tree",
    f"{INFERENCE}.Algorithms",
    f"{INFERENCE}.run_display",
    f"{INFERENCE}.replicas",
    f"{INFERENCE}.run_report",
    f"{INFERENCE}.run",
    f"{INFERENCE}.Downstream_tasks",
    f"{INFERENCE}.server",
    f"{INFERENCE}.qa_pipeline_multithread",
    "evaluation.toolbench.demo",
    "evaluation.toolbench.toolset",
    f"{INFERENCE}.doctor",
    "evaluation.toolbench.tooleval",
    "evaluation.toolbench.retrieval",
    "evaluation.retrieval",
    "evaluation.toolbench.launcher",
)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("evaluation/**/*.py"))}


def imports_of(source: str) -> set[str]:
    """The modules of this tree that a source names in an import, wherever that stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write the import from `evaluation` on"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & MODULES.keys() or {str(node.module)}
    return {name for name in found if name.split(".")[0] == "evaluation"}


def floor_of(module: str) -> int:
    floors = [floor for floor, room in enumerate(ROOMS) if f"{module}.".startswith(f"{room}.")]
    assert floors, f"{module} is in no room: add its folder to ROOMS in tests/test_layers.py, above what it imports"
    return floors[0]


def imports_up(module: str, source: str) -> list[str]:
    return sorted(name for name in imports_of(source) if floor_of(name) > floor_of(module))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_lower_rooms_only(room):
    floor = ROOMS.index(room)
    up = {name: imports_up(name, source) for name, source in MODULES.items() if floor_of(name) == floor}
    assert {name: found for name, found in up.items() if found} == {}


def test_no_modules_import_each_other_in_a_circle():
    tuple(TopologicalSorter({name: imports_of(source) for name, source in MODULES.items()}).static_order())


@pytest.mark.parametrize(
    "source",
    [
        f"from {INFERENCE}.run.summary import RunSummary",
        f"from {INFERENCE}.run import summary",
        f"def lazily():\n    import {INFERENCE}.run.summary",
        f"if TYPE_CHECKING:\n    from {INFERENCE}.run.summary import RunSummary",
    ],
)
def test_an_import_up_is_seen_wherever_it_stands(source):
    assert imports_up(f"{INFERENCE}.replicas.layout", source) != []
    assert imports_up(f"{INFERENCE}.doctor.machine", source) == []


def test_a_folder_that_nobody_placed_is_named_with_what_to_do():
    with pytest.raises(AssertionError, match="add its folder to ROOMS"):
        floor_of(f"{INFERENCE}.cupboard.shelf")
