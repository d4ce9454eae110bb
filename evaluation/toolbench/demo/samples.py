"""Makes conversations with right answers: training samples without end, and the demo's fixed queries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from evaluation.toolbench.demo.world import TASKS, TOOLS
from evaluation.toolbench.demo.world.schema import Call, Split, Task, Trajectory, choose, expansions, solve
from evaluation.toolbench.demo.world.values import HELD_OUT, Value, sample_value
from evaluation.toolbench.names import ascii_folded

FINISH_TOKEN = "<<Finish>>"

_OPENERS = ("Hi! ", "Hello! ", "Hello, ", "Please help me. ", "Quick question: ", "Good morning. ", "Dear assistant, ")
_CLOSERS = (" Thanks!", " Thank you.", " Please.", " Many thanks!", " It is urgent.")
_ERRORS = (
    "API not working error...",
    "Message error...",
    "Too many requests error...",
    "Rate limit per minute error...",
    "Failed to generate fake response",
    "Timeout error...",
    "request invalid, data error",
)
_FILLERS = ("please", "now", "today", "really", "maybe", "just", "exactly", "so", "the", "my", "also", "here", "it")
_NOISY_SHARE = 0.3  # of the training questions
_NOISE = 0.08  # chance of each of a noisy question's words to be left out, and to be followed by a filler
_ERROR_SHARE = 0.08
_SEEN_QUERY_SHARE = 0.01
_SEEN_QUERIES = len(TASKS) // 2
_SEEN_SEED = "seen demo queries"
_HELD_OUT_SEED = "held-out demo queries"


_LINES = {task.name: task.lines("seen") for task in TASKS}


@dataclass(frozen=True)
class Turn:
    """Holds one step of a conversation, texts as the model writes them; `observation` is None after Finish."""

    thought: str
    action: str  # a tool token
    arguments: str
    observation: str | None


@dataclass(frozen=True)
class Sample:
    """Holds a question and the turns that lead to its end."""

    question: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class DemoQuery:
    """Describes a query of the demo with its right trajectory."""

    query_id: int
    split: Split
    trajectory: Trajectory


def training_sample(rng: Random) -> Sample:
    """Return a fresh sample; now and then one of the seen demo queries, or one whose API fails for a while."""
    if rng.random() < _SEEN_QUERY_SHARE:
        return as_sample(_seen_trajectory(rng.randrange(_SEEN_QUERIES)))
    trajectory = _training_trajectory(rng.choice(TASKS), rng)
    if rng.random() < _ERROR_SHARE:
        return _with_failures(trajectory, rng)
    return as_sample(trajectory)


def demo_queries() -> list[DemoQuery]:
    """Return the demo's queries: some of the training set, then every held-out wording with held-out values."""
    seen = [_seen_trajectory(position) for position in range(_SEEN_QUERIES)]
    rng = Random(_HELD_OUT_SEED)
    held_out = [_held_out_trajectory(task, line, rng) for task in TASKS for line in task.lines("held_out")]
    return [
        *(DemoQuery(number, "seen", trajectory) for number, trajectory in enumerate(seen, start=1)),
        *(DemoQuery(number, "held_out", trajectory) for number, trajectory in enumerate(held_out, start=101)),
    ]


def as_sample(trajectory: Trajectory) -> Sample:
    """Return the conversation in which every call succeeds."""
    turns = [
        Turn(step.thought, action_token(step.call), json.dumps(step.arguments), observation(step.answer))
        for step in trajectory.steps
    ]
    return Sample(trajectory.question, (*turns, _finish(trajectory)))


def action_token(call: Call) -> str:
    """Return the tool token of a call, in ASCII as in the vocabulary."""
    return ascii_folded(f"<<{call.tool}&&{call.api}>>")


def observation(answer: Mapping[str, Value]) -> str:
    """Return what the environment shows of an API's answer."""
    return json.dumps({"error": "", "response": answer})


def _finish(trajectory: Trajectory) -> Turn:
    arguments = {"return_type": "give_answer", "final_answer": trajectory.answer}
    return Turn(trajectory.conclusion, FINISH_TOKEN, json.dumps(arguments), None)


def bare_words(text: str) -> tuple[str, ...]:
    """Return what two wordings are compared by."""
    return tuple(re.findall(r"\w+", text.lower()))


_HELD_OUT_WORDINGS = frozenset(
    bare_words(text) for task in TASKS for line in task.lines("held_out") for text in expansions(line)
)


def _training_trajectory(task: Task, rng: Random) -> Trajectory:
    wording = choose(rng.choice(_LINES[task.name]), rng)
    if rng.random() < _NOISY_SHARE:
        noisy = _with_noise(wording, rng)
        wording = wording if bare_words(noisy) in _HELD_OUT_WORDINGS else noisy
    opener = rng.choice(_OPENERS) if rng.random() < 0.25 else ""
    closer = rng.choice(_CLOSERS) if rng.random() < 0.2 else ""
    slots = _distinct(task.slots, lambda kind: sample_value(kind, rng))
    return solve(task, f"{opener}{wording}{closer}", slots, TOOLS)


def _with_noise(wording: str, rng: Random) -> str:
    """Return `wording` with words left out and put in, its slots untouched, so that no single word decides."""
    words = []
    for word in wording.split(" "):
        if "{" in word or rng.random() >= _NOISE:
            words.append(word)
        if rng.random() < _NOISE:
            words.append(rng.choice(_FILLERS))
    return " ".join(words)


def _seen_trajectory(position: int) -> Trajectory:
    """Return the trajectory of a seen query, the same for the same position; every other task has one."""
    return _training_trajectory(TASKS[2 * position], Random(f"{_SEEN_SEED} {position}"))


def _held_out_trajectory(task: Task, line: str, rng: Random) -> Trajectory:
    slots = _distinct(task.slots, lambda kind: rng.choice(HELD_OUT[kind]))
    return solve(task, choose(line, rng), slots, TOOLS)


def _distinct(kinds: Mapping[str, str], draw: Callable[[str], Value]) -> dict[str, Value]:
    """Return a value for every slot, no two with a word in common: nobody travels from a city to the same city."""
    slots: dict[str, Value] = {}
    words: set[str] = set()
    for name, kind in kinds.items():
        value = draw(kind)
        while not words.isdisjoint(bare_words(str(value))):
            value = draw(kind)
        slots[name] = value
        words.update(bare_words(str(value)))
    return slots


def _with_failures(trajectory: Trajectory, rng: Random) -> Sample:
    """Make one call fail: once, and the second try succeeds; or twice, and the model gives up."""
    turns = list(as_sample(trajectory).turns)
    position = rng.randrange(len(trajectory.steps))
    good = turns[position]
    error = json.dumps({"error": rng.choice(_ERRORS), "response": ""})
    first = Turn(good.thought, good.action, good.arguments, error)
    retry = "The call failed, I try it once more."
    if rng.random() < 0.5:
        second = Turn(retry, good.action, good.arguments, good.observation)
        return Sample(trajectory.question, (*turns[:position], first, second, *turns[position + 1 :]))
    second = Turn(retry, good.action, good.arguments, error)
    give_up = Turn(
        "The call failed again, I have to give up.",
        FINISH_TOKEN,
        json.dumps({"return_type": "give_up_and_restart"}),
        None,
    )
    return Sample(trajectory.question, (*turns[:position], first, second, give_up))
