"""Turns the nodes of an answer file into steps, in a shape that is quick to read and to draw.

An answer has a chain of nodes for each CoT try, or a tree of nested nodes for DFS. Three nodes below one
another (thought, action, action input) are one step here, and a `Trajectory` is a path of steps that may
end in a fork. Timings from the event log are put to the steps by their fingerprints.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evaluation.toolbench.inference.records.event_history import Attempt, Call, Generation
from evaluation.toolbench.inference.records.event_log import step_fingerprint
from evaluation.toolbench.inference.records.finish import FINAL_ANSWER, GAVE_UP

Node = Mapping[str, Any]  # a node's JSON as the answer file has it

_Event = TypeVar("_Event", Generation, Call)

# What must not come after what within one step: an action after an action is the next step's.
_ORDER = {"Thought": 0, "Action": 1, "Action Input": 2}


@dataclass
class Step:
    """Holds a step of the model. What it did not do is None: think, call, or get a reply."""

    thought: str | None = None
    action: str | None = None
    arguments: str | None = None
    observation: str | None = None
    code: int | None = None
    pruned: bool = False
    generation: Generation | None = None
    call: Call | None = None

    @property
    def is_error(self) -> bool:
        return self.code not in (None, 0, FINAL_ANSWER, GAVE_UP)

    def add(self, node: Node) -> None:
        """Take in a node of this step."""
        kind, text = node.get("node_type"), _text(node.get("description"))
        if kind == "Action":
            self.action = text
        elif kind == "Action Input":
            self.arguments = text
        else:
            self.thought = text
        if node.get("observation"):
            self.observation = _text(node["observation"])
        if isinstance(node.get("observation_code"), int):
            self.code = node["observation_code"]
        self.pruned = self.pruned or bool(node.get("pruned"))


@dataclass
class Trajectory:
    """Holds steps one after another, then as many ways to go on as were tried: none, or at least two."""

    steps: list[Step] = field(default_factory=list)
    branches: list[Trajectory] = field(default_factory=list)

    def walk(self) -> Iterator[Step]:
        """Yield all steps, earlier ones before those that follow from them."""
        yield from self.steps
        for branch in self.branches:
            yield from branch.walk()


def chain_trajectory(nodes: Sequence[Node]) -> Trajectory:
    """Follow a CoT try's chain."""
    trajectory = Trajectory()
    position = 0
    for node in nodes:
        position = _append(trajectory, node, position)
    return trajectory


def tree_trajectory(root: Node) -> Trajectory:
    """Follow a DFS tree; the root itself says nothing."""
    trajectory = Trajectory()
    _go_down(trajectory, _children(root), position=0)
    return trajectory


def attempt_trajectory(attempt: Attempt) -> Trajectory:
    """Rebuild a try that left no answer from its events; those of a killed process are without the steps' texts."""
    calls = _by_step(attempt.calls)
    steps = []
    for generation in attempt.generations:
        call = _next(calls, generation.step)
        said = attempt.texts.get(generation.step, {})
        step = Step(thought=said.get("thought"), arguments=said.get("arguments"), generation=generation)
        if call:
            step.action, step.code, step.call = call.name, call.code, call
            step.observation = said.get("observation")
        steps.append(step)
    return Trajectory(steps)


def add_timings(trajectories: Sequence[Trajectory], attempt: Attempt) -> None:
    """Put the attempt's generations and calls to the steps that they made."""
    generations = _by_step(attempt.generations)
    calls = _by_step(attempt.calls)
    for trajectory in trajectories:
        for step in trajectory.walk():
            if step.action is None:
                fingerprint = step_fingerprint(None, step.thought or "")
            else:
                fingerprint = step_fingerprint(step.action, step.arguments or "")
            step.generation = _next(generations, fingerprint)
            step.call = _next(calls, fingerprint)


def trajectory_json(trajectory: Trajectory, seconds_since: Callable[[float], float]) -> dict[str, Any]:
    """Return it as the page's script reads it; what is None, false or empty is left out."""
    record: dict[str, Any] = {"steps": [_step_json(step, seconds_since) for step in trajectory.steps]}
    if trajectory.branches:
        record["branches"] = [trajectory_json(branch, seconds_since) for branch in trajectory.branches]
    return record


def _go_down(trajectory: Trajectory, children: Sequence[Node], position: int) -> None:
    while len(children) == 1:
        position = _append(trajectory, children[0], position)
        children = _children(children[0])
    for child in children:
        branch = Trajectory()
        _go_down(branch, [child], position=0)
        trajectory.branches.append(branch)


def _append(trajectory: Trajectory, node: Node, position: int) -> int:
    """Add a node to the last step, or to a new one if that is past `node`'s place in a step; return the next place."""
    place = _ORDER.get(_text(node.get("node_type")), 0)
    if not trajectory.steps or place < position:
        trajectory.steps.append(Step())
    trajectory.steps[-1].add(node)
    return place + 1


def _children(node: Node) -> list[Node]:
    children = node.get("children")
    return [child for child in children if isinstance(child, Mapping)] if isinstance(children, list) else []


def _by_step(events: Sequence[_Event]) -> dict[str, deque[_Event]]:
    queues: dict[str, deque[_Event]] = {}
    for event in events:
        queues.setdefault(event.step, deque()).append(event)
    return queues


def _next(queues: dict[str, deque[_Event]], fingerprint: str) -> _Event | None:
    queue = queues.get(fingerprint)
    return queue.popleft() if queue else None


def _step_json(step: Step, seconds_since: Callable[[float], float]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "thought": step.thought,
        "action": step.action,
        "arguments": step.arguments,
        "observation": step.observation,
        "code": step.code,
        "pruned": step.pruned or None,
    }
    if step.generation is not None:
        generation = step.generation
        record["generation"] = {
            "at": round(seconds_since(generation.start), 3),
            "seconds": round(generation.seconds, 3),
            "tokens": generation.tokens,
            "prompt_tokens": generation.prompt_tokens,
        }
    if step.call is not None:
        record["call"] = {"at": round(seconds_since(step.call.start), 3), "seconds": round(step.call.seconds, 3)}
    return {key: value for key, value in record.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
