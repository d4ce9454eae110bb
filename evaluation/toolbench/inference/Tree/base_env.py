"""Defines what the search algorithms need of a task: functions to call, and a reply for every call."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

FunctionJson = dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters"}}


class base_env(ABC):
    """Gives one conversation's view of its task. Every node of the tree keeps a copy of it."""

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
        """Return a copy that knows nothing of what happens here from now on.

        It is as deep as ToolBench's; an environment that holds much says itself what can be shared.
        """
        return copy.deepcopy(self)
