"""Finds the texts of the search algorithms: a ToolBench checkout's where there is one, else our own wording.

The ToolGen agents put their own system prompt in place of the first, so these matter to other models and
to the ranking and diversity of DFS. The user's turn is fixed: answer files hold it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

_OWN_SYSTEM = """You solve a user's task by calling functions.
{task_description}
In every turn first state briefly what you know so far and what to do next, then call exactly one function. \
Its result is shown to you before your next turn. When a function does not work, try another one. \
Always end with the function Finish, and give it an answer that is complete by itself."""

_OWN_DIVERSITY = """You have been at this point before and tried the following:
{previous_candidate}
Now take a different next step: another function, or clearly different arguments."""

_OWN_RANK_SYSTEM = """You judge which of two attempts is closer to solving a task.
The task:
{task_description}
What both attempts did first:
{intersect_trice}
Attempt A went on with:
{candidate_A}
Attempt B went on with:
{candidate_B}"""

_OWN_RANK_USER = "Which attempt is better? Answer with one letter, A or B."


@dataclass(frozen=True)
class SearchPrompts:
    """Names its fields as the constants in the checkout's `Prompts/*.py`, in lower case."""

    format_instructions_system_function: str = _OWN_SYSTEM
    format_instructions_user_function: str = "\n{input_description}\nBegin!\n"
    diversity_prompt: str = _OWN_DIVERSITY
    llm_pairwise_rank_subfix_system_prompt: str = _OWN_RANK_SYSTEM
    llm_pairwise_rank_user_prompt: str = _OWN_RANK_USER


_PROMPTS_DIR = Path(__file__).resolve().parent.parent / "Prompts"


@lru_cache(maxsize=4)
def search_prompts(prompts_dir: Path = _PROMPTS_DIR) -> SearchPrompts:
    """Return the texts in use. The checkout's files are parsed, never executed."""
    found: dict[str, str] = {}
    for path in sorted(prompts_dir.glob("*.py")):
        found.update(_string_assignments(path))
    wanted = {field.name.upper(): field.name for field in fields(SearchPrompts)}
    return SearchPrompts(**{wanted[name]: text for name, text in found.items() if name in wanted})


def _string_assignments(path: Path) -> dict[str, str]:
    """Return the module-level `NAME = "text"` of a Python file; nothing of one that cannot be read."""
    try:
        module = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    return {
        target.id: statement.value.value
        for statement in module.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
