"""Real replica processes without a model: queries that take a few milliseconds, and faults on demand."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import ApiError, DataError, OutputError, StopRequested
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
from evaluation.toolbench.inference.replicas.messages import Setup
from evaluation.toolbench.inference.replicas.replica import Replica, Work

LOADER = f"{__name__}:load"
METHOD = "CoT@1"
STEP_S = 0.004


@dataclass(frozen=True)
class Job:
    """What the replicas are told: where answers go, items at once, and what happens as each of them loads."""

    folder: str
    num_conversations: int = 1
    load: dict[int, str] = field(default_factory=dict)  # replica -> "die" or "refuse"


def setup_of(spec: ReplicaSpec, job: Job) -> Setup:
    return Setup(spec, LOADER, job)


@contextmanager
def load(replica: Replica, job: Job) -> Iterator[Work]:
    """A second kind of run, beside ToolBench's: what `replicas` asks of one, and no more."""
    fault = job.load.get(replica.spec.number)
    if fault == "die":
        os._exit(7)
    if fault == "refuse":
        raise DataError("the checkpoint is bad", path="model")
    folder = AnswerFolder(job.folder, METHOD)
    replica.watch.meter.engine_steps = lambda: 0  # it shows its progress
    yield Work.on_threads(lambda item_id: run_item(item_id, folder, replica), job.num_conversations)


def run_item(query_id: str, folder: AnswerFolder, replica: Replica) -> str:
    """Three short steps and an answer, unless the id asks for something else; "waits…" goes on until `let_go`."""
    if query_id == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if query_id == "wrong":
        raise KeyError("a token without documentation")
    if query_id == "away" or (query_id == "once away" and first_time(folder.folder.parent / "was away")):
        raise ApiError("nobody is there")
    if query_id == "full":
        raise OutputError("the disk is full", path="x")
    if query_id == "stuck":
        time.sleep(600)
    if query_id == "unspeakable":
        return lambda: "this cannot cross processes"  # type: ignore[return-value]
    if query_id == "freezes" and first_time(folder.folder.parent / "has frozen"):
        os.kill(os.getpid(), signal.SIGSTOP)
    steps = itertools.count() if query_id.startswith("waits") else range(3)
    for _ in steps:
        if replica.stop.is_set():
            raise StopRequested
        if query_id.startswith("waits") and may_go(folder.folder.parent):
            break
        time.sleep(STEP_S)
        replica.watch.meter.generation_ended(5)
    folder.write(query_id, answer_of(query_id))
    return f"answer {query_id}"


def first_time(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def let_go(folder: Path) -> None:
    """Queries that wait come to their end, in runs whose answers go to a folder in `folder`."""
    (folder / "go").touch()


def may_go(folder: Path) -> bool:
    return (folder / "go").exists()


def answer_of(query_id: str) -> dict[str, Any]:
    arguments = json.dumps({"return_type": "give_answer", "final_answer": f"answer {query_id}"})
    generation = {"valid_data": True, "final_answer": arguments, "query_count": 3, "total_tokens": 15, "query": "?"}
    return {"win": True, "trys": [], "answer_generation": generation}


def expected_answers(query_ids: list[str]) -> dict[str, bytes]:
    """The folder as it is when all of them are answered."""
    return {f"{query_id}_{METHOD}.json": json.dumps(answer_of(query_id), indent=2).encode() for query_id in query_ids}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
