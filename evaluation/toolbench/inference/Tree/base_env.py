"""Defines what the search algorithms need of a task: functions to call, and a reply for every call."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

FunctionJson = dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters"}}


class base_env(ABC):
    """Gives one conversation's view of its task. A node of the tree keeps a copy of it, so copies are cheap:
    what can change is copied, the rest is shared."""

    task_description: str  # for the system message
    input_description: str  # the query
    functions: dict[str, FunctionJson]  # all that may be called, `Finish` included
    truth_functions: dict[str, FunctionJson]  # the query's own, without `Finish`

    @abstractmethod
    def step(self, *, action_name: str, action_input: str) -> tuple[str, int]:
        """Call `action_name` with `action_input`, as the model wrote it: (observation, status code)."""

    @abstractmethod
    def check_success(self) -> int:
        """Return 1 after a final answer, else 0."""

    @abstractmethod
    def restart(self) -> None:
        """Go back to the beginning."""

    def get_score(self) -> float:
        return 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what a node's JSON says of the environment."""
        return {}

    def copy(self) -> base_env:
        return copy.copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> base_env:
        return self.copy()
