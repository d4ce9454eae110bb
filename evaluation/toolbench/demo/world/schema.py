"""Defines what the demo's world is made of: tools with their APIs, and tasks that can be solved with them.

An API answers with a pure function of its arguments. A task is a family of questions with one right
trajectory; its texts are templates over the question's slots (`{city}`) and the fields of earlier
answers (`{1.station_id}`: field `station_id` of the first call's answer).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from evaluation.toolbench.demo.world.values import Value, sample_value

Split = Literal["seen", "held_out"]

_REFERENCE = re.compile(r"\{([^{}]+)\}")
_ALTERNATIVES = re.compile(r"\(([^()]*)\)")
_FRAME = re.compile(r"<(\w+)>")

# What questions of every kind begin with, so that it tells nothing about the task.
_FRAMES = {
    "tell": "Tell me|Give me|Show me|Find|Find me|Look up|Get me|I need|I want|I would like|Please tell me|Please find|"
    "Can you find|Could you tell me|Let me have|I have to know",
    "know": "I want to know|I would like to know|I need to know|I have to know|Tell me|Can you tell me|"
    "Could you tell me|Please tell me|Do you know|I wonder|I ask myself|Find out",
    "want": "want to|need to|have to|plan to|would like to|am going to|must|will",
    "trip": "I am going|I travel|I am off|I fly|I drive|I want to go|I plan to go|We are going|We travel|We fly",
    "at": "I am in|I am now in|I live in|I stay in|I have arrived in|We are in|We live in|We have arrived in",
    "near": "I am at|I wait at|I am waiting at|I have arrived at|We are at|We wait at|We have arrived at",
}


@dataclass(frozen=True)
class Parameter:
    """Describes a parameter as ToolBench documents it; `type` is STRING or NUMBER."""

    name: str
    type: str
    description: str

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "type": self.type, "description": self.description, "default": ""}


def text(name: str, description: str) -> Parameter:
    return Parameter(name, "STRING", description)


def number(name: str, description: str) -> Parameter:
    return Parameter(name, "NUMBER", description)


@dataclass(frozen=True)
class Api:
    """Describes one API. `answer` maps each field to a kind of `values.py`."""

    name: str
    description: str
    required: tuple[Parameter, ...]
    answer: Mapping[str, str]
    optional: tuple[Parameter, ...] = ()

    def respond(self, arguments: Mapping[str, Value]) -> dict[str, Value]:
        """Return the answer to `arguments`: the same for the same arguments, whenever and wherever it is asked for."""
        seed = hashlib.sha256(f"{self.name} {json.dumps(arguments, sort_keys=True)}".encode()).hexdigest()
        rng = Random(seed)
        return {name: sample_value(kind, rng) for name, kind in self.answer.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the API in the layout of `tools.json`."""
        return {
            "name": self.name,
            "description": self.description,
            "required_parameters": [parameter.as_json() for parameter in self.required],
            "optional_parameters": [parameter.as_json() for parameter in self.optional],
            "method": "GET",
        }


@dataclass(frozen=True)
class Tool:
    category: str
    name: str
    description: str
    apis: tuple[Api, ...]

    def api(self, name: str) -> Api:
        return next(api for api in self.apis if api.name == name)

    def document(self, api: Api) -> dict[str, Any]:
        """Return one of its APIs as a query's `api_list` and a retrieval corpus have it."""
        return {
            "category_name": self.category,
            "tool_name": self.name,
            "api_name": api.name,
            "api_description": api.description,
            "required_parameters": [parameter.as_json() for parameter in api.required],
            "optional_parameters": [parameter.as_json() for parameter in api.optional],
            "method": "GET",
        }


@dataclass(frozen=True)
class Call:
    """Describes one step of the right trajectory: the thought that leads to it, and its arguments as templates."""

    tool: str
    api: str
    thought: str
    arguments: Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """Describes a family of questions.

    `slots` maps slot names to kinds of `values.py`. `wordings` are trained on, one a line; `(a|b)` stands for
    either, `<tell>` for any of the frames of that name. `held_out` wordings are not trained on. `answer` is the
    final answer; `facts` are the references whose values it must contain, from the answers of the calls.
    """

    name: str
    slots: Mapping[str, str]
    calls: tuple[Call, ...]
    conclusion: str
    answer: str
    wordings: str
    held_out: str
    facts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        facts = tuple(name for name in _REFERENCE.findall(self.answer) if "." in name)
        object.__setattr__(self, "facts", facts)

    def lines(self, split: Split) -> list[str]:
        """Return the wordings of `split`, alternatives not yet chosen."""
        block = self.wordings if split == "seen" else self.held_out
        return [_FRAME.sub(lambda match: f"({_FRAMES[match[1]]})", line.strip()) for line in block.strip().splitlines()]


@dataclass(frozen=True)
class Step:
    """Holds a call of a trajectory with its arguments and its answer filled in."""

    call: Call
    thought: str
    arguments: dict[str, Value]
    answer: dict[str, Value]


@dataclass(frozen=True)
class Trajectory:
    """Holds the right way from a question to its answer."""

    task: Task
    question: str
    steps: tuple[Step, ...]
    conclusion: str
    answer: str
    facts: tuple[str, ...]


def fill(template: str, values: Mapping[str, Value]) -> str:
    """Return `template` with each `{name}` replaced by `values[name]`."""
    return _REFERENCE.sub(lambda match: str(values[match[1]]), template)


def choose(wording: str, rng: Random) -> str:
    """Return `wording` with one of each `(a|b|c)` chosen."""
    return _ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), wording)


def expansions(wording: str) -> Iterator[str]:
    """Return all texts that `choose` can give."""
    parts = _ALTERNATIVES.split(wording)
    options: Sequence[Sequence[str]] = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return ("".join(choice) for choice in itertools.product(*options))


def solve(task: Task, wording: str, slots: Mapping[str, Value], tools: Mapping[str, Tool]) -> Trajectory:
    """Return the right trajectory of `task` for `wording` (alternatives chosen) and the values of its slots."""
    known: dict[str, Value] = dict(slots)
    steps = []
    for position, call in enumerate(task.calls, start=1):
        arguments = {name: _resolve(template, known) for name, template in call.arguments.items()}
        answer = tools[call.tool].api(call.api).respond(arguments)
        steps.append(Step(call, fill(call.thought, known), arguments, answer))
        known.update({f"{position}.{name}": value for name, value in answer.items()})
    return Trajectory(
        task=task,
        question=fill(wording, known),
        steps=tuple(steps),
        conclusion=fill(task.conclusion, known),
        answer=fill(task.answer, known),
        facts=tuple(str(known[name]) for name in task.facts),
    )


def _resolve(template: str, known: Mapping[str, Value]) -> Value:
    """Fill the template in. A lone reference keeps its type, so that numbers stay numbers in the arguments."""
    match = _REFERENCE.fullmatch(template)
    return known[match[1]] if match else fill(template, known)
