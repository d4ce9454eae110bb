"""Writes what the system message says of the task, and how Finish is described.

ToolBench's wording comes from the checkout's `Downstream_tasks/rapidapi.py`, which is parsed and never
executed; without a checkout our own stands in. The ToolGen agents replace the system message, so this
matters to other models.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from evaluation.toolbench.checkout import repository_root
from evaluation.toolbench.inference.toolgen.prompts import load_prompt_texts

_OWN_TASK = """Use the functions to handle the request. Three rules:
1. The last function you call is "Finish", with the whole answer or with the wish to give up and restart.
2. Call subfunctions by exactly the names you were given; there are no others.
3. Each subfunction belongs to one of the tools below.
"""

_OWN_ANSWER_DESCRIPTION = 'The complete answer for the user, needed when return_type is "give_answer".'

_LONGEST_TOOL_DESCRIPTION = 512  # characters


@dataclass(frozen=True)
class TaskTexts:
    """`task` ends in a line break: a line per tool follows it."""

    finish_description: str
    task: str = _OWN_TASK
    answer_description: str = _OWN_ANSWER_DESCRIPTION


@lru_cache(maxsize=4)
def task_texts(root: Path | None = None) -> TaskTexts:
    """Find the texts in use in the tree at `root`, by default the one this package lies in."""
    root = root or repository_root()
    texts = TaskTexts(load_prompt_texts(indented=False, root=root).finish_description)
    path = root / "evaluation/toolbench/inference/Downstream_tasks/rapidapi.py"
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return texts
    task = next(_task_descriptions(nodes), None)
    answer_description = next(_answer_descriptions(nodes), None)
    if task is not None:
        texts = replace(texts, task=task.rstrip("\n") + "\n")
    return replace(texts, answer_description=answer_description) if answer_description is not None else texts


def task_description(tools: Iterable[Sequence[str | None]]) -> str:
    """Write the paragraph on the task, then `<k>.<name>: <description>` per tool of [name, description], in
    first-seen order with the last description seen, which is cut to 512 characters on one line."""
    lines = {name: _one_line(description) for name, description in tools}
    return task_texts().task + "".join(
        f"{k}.{name}: {description}\n" for k, (name, description) in enumerate(lines.items(), start=1)
    )


def _one_line(description: str | None) -> str | None:
    if not isinstance(description, str):
        return None
    return description[:_LONGEST_TOOL_DESCRIPTION].replace("\n", "").strip() or None


def _task_descriptions(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Find fixed strings assigned to an attribute `task_description`."""
    for node in nodes:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Attribute) and target.attr == "task_description" for target in node.targets
        ):
            parts = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
            texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if texts and len(texts) == len(parts):
                yield "".join(texts)


def _answer_descriptions(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Find the description of `final_answer` in a literal function JSON."""
    for node in nodes:
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "final_answer":
                try:
                    described = ast.literal_eval(value)
                except ValueError:
                    continue
                if isinstance(described, dict) and isinstance(described.get("description"), str):
                    yield described["description"]
