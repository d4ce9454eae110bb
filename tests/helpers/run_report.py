"""Answer folders made by the real searches, with a model and an environment that say what they are told."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.Algorithms.base_search import base_search_method
from evaluation.toolbench.inference.Algorithms.DFS import DFS_tree_search
from evaluation.toolbench.inference.Algorithms.single_chain import single_chain
from evaluation.toolbench.inference.records.event_log import EventLog, QueryRecorder
from evaluation.toolbench.inference.records.finish import FINISH_NAME, parse_finish
from evaluation.toolbench.inference.Tree.base_env import base_env

ANSWER = '{"return_type": "give_answer", "final_answer": "Sunny, 21 degrees."}'
GIVE_UP = '{"return_type": "give_up_and_restart"}'


@dataclass
class Move:
    """A step of the model, and what the environment says to it. Times are of the simulated clock."""

    thought: str | None = "I look up the forecast."
    action: str | None = "daily_forecast_for_sky_watch"
    arguments: str = '{"city": "Paris"}'
    observation: str = '{"error": "", "response": "sunny"}'
    code: int = 0
    generation_s: float = 1.0
    call_s: float = 0.5
    tokens: int = 40


def finish(arguments: str = ANSWER, thought: str | None = "I know the answer.") -> Move:
    return Move(thought, FINISH_NAME, arguments, call_s=0.0)


class SimulatedLog(EventLog):
    """An event log whose time passes only where a move says so."""

    time = 1_700_000_000.0

    def now(self) -> float:
        return self.time


@dataclass
class Script:
    """The model: takes one move after the other. `log` is the one whose time passes."""

    moves: Iterator[Move]
    log: SimulatedLog | None = None
    recorder: QueryRecorder | None = None  # is told of the tokens, as by the engine of a run
    last: Move = field(default_factory=Move)

    def change_messages(self, messages: list[dict[str, Any]]) -> None:
        self.num_messages = len(messages)

    def parse(self, tools: Any = None, process_id: int = 0, **_: Any) -> tuple[dict[str, Any], int, int]:
        self.last = move = next(self.moves)
        self.pass_time(move.generation_s)
        if self.recorder is not None:
            self.recorder.count_tokens(generated=move.tokens, prompt=500 + 200 * self.num_messages)
        call = {"id": None, "type": "function", "function": {"name": move.action, "arguments": move.arguments}}
        calls = None if move.action is None else [call]
        message = {"role": "assistant", "content": move.thought, "function_call": None, "tool_calls": calls}
        return message, 0, move.tokens

    def pass_time(self, seconds: float) -> None:
        if self.log is not None:
            self.log.time += seconds


class ScriptedEnvironment(base_env):
    """Answers a call as the model's last move has it, and Finish as the real one does."""

    task_description = "Answer."

    def __init__(self, script: Script, query: str) -> None:
        self.script = script
        self.input_description = query
        self.functions: dict[str, Any] = {}
        self.truth_functions: dict[str, Any] = {}
        self.success = 0

    def step(self, *, action_name: str, action_input: str) -> tuple[str, int]:
        move = self.script.last
        self.script.pass_time(move.call_s)
        if action_name != FINISH_NAME:
            return move.observation, move.code
        observation, code = parse_finish(action_input).outcome()
        self.success = int(code == 3)
        return observation, code

    def check_success(self) -> int:
        return self.success

    def restart(self) -> None:
        self.success = 0

    def copy(self) -> ScriptedEnvironment:
        return copy.copy(self)  # with the same script


def search(
    moves: Sequence[Move] | Iterator[Move],
    query: str = "Will it be sunny in Paris?",
    *,
    method: str = "CoT@1",
    log: SimulatedLog | None = None,
    recorder: QueryRecorder | None = None,
    max_step: int = 16,
) -> base_search_method:
    """Run the real search of `method` over the moves."""
    script = Script(iter(moves), log, recorder)
    environment = ScriptedEnvironment(script, query)
    callbacks = [recorder] if recorder is not None else []
    if method.startswith("CoT"):
        chain = single_chain(script, environment, callbacks=callbacks)
        chain.start(single_chain_max_step=max_step, pass_at=int(method.split("@")[1]))
        return chain
    tree = DFS_tree_search(script, environment, callbacks=callbacks)
    tree.start(
        single_chain_max_step=max_step,
        tree_beam_size=int(method.split("_w")[-1]),
        max_query_count=200,
        with_filter="woFilter" not in method,
    )
    return tree


def write_answer(folder: Path, query_id: str, done: base_search_method, query: str, method: str = "CoT@1") -> Path:
    """The answer file as the pipeline writes it with provider `all`."""
    record = done.to_json(answer=True, process=True)
    del record["answer_generation"]["function"]
    record["answer_generation"]["query"] = query
    path = folder / f"{query_id}_{method}.json"
    path.write_text(json.dumps(record, indent=2), encoding="utf-8")
    return path


def run_query(
    folder: Path,
    log: SimulatedLog,
    query_id: str,
    moves: Sequence[Move] | Iterator[Move],
    *,
    query: str = "Will it be sunny in Paris?",
    method: str = "CoT@1",
    max_step: int = 16,
) -> Path:
    """Answer one query as a run does: recorded in `log`, written to `folder`."""
    with log.query(query_id, method=method, text=query) as recorder:
        done = search(moves, query, method=method, log=log, recorder=recorder, max_step=max_step)
        return write_answer(folder, query_id, done, query, method)


@contextmanager
def replica_log(folder: Path, replica: int = 0, **options: Any) -> Iterator[SimulatedLog]:
    with SimulatedLog(folder, replica, run_id=options.pop("run_id", "run-1"), **options) as log:
        yield log
