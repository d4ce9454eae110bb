"""Real replica processes without a model: queries that take a few milliseconds, and faults on demand."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError, OutputError, StopRequested
from evaluation.toolbench.inference.process_watch import die_with_parent, when_process_ends
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.messages import Ended, Loaded, LoadFailed
from evaluation.toolbench.inference.replicas.meter import Meter
from evaluation.toolbench.inference.replicas.serving import Heart, ParentLine, ReplicaServer

METHOD = "CoT@1"
STEP_S = 0.004


def main() -> int:
    """A replica's process; `setup` is {"folder", "num_conversations", "load"}."""
    connection_fd, setup_fd, parent = map(int, sys.argv[2:5])
    die_with_parent()
    when_process_ends(parent, lambda: os._exit(3))
    with os.fdopen(setup_fd, "rb") as stream:
        setup: dict[str, Any] = pickle.load(stream)
    line, meter, stop = ParentLine(Connection(connection_fd)), Meter(), threading.Event()
    heart = Heart(line, meter)
    if setup["load"] == "die":
        os._exit(7)
    if setup["load"] == "refuse":
        line.send(LoadFailed(Problem.of(DataError("the checkpoint is bad", path="model"))))
        return 1
    folder = AnswerFolder(setup["folder"], METHOD)
    line.send(Loaded(setup["num_conversations"], sees_steps=True))
    server = ReplicaServer(line, lambda query_id: run_query(query_id, folder, meter, stop), stop, lambda _: False)
    if server.serve():
        heart.stop()
        line.send(Ended())
    return 0


def run_query(query_id: str, folder: AnswerFolder, meter: Meter, stop: threading.Event) -> None:
    """Three short steps and an answer, unless the id asks for something else; "waits…" goes on until `let_go`."""
    if query_id == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if query_id == "wrong":
        raise KeyError("a token without documentation")
    if query_id == "full":
        raise OutputError("the disk is full", path="x")
    if query_id == "stuck":
        time.sleep(600)
    if query_id == "freezes" and first_time(folder.folder.parent / "has frozen"):
        os.kill(os.getpid(), signal.SIGSTOP)
    steps = itertools.count() if query_id.startswith("waits") else range(3)
    for _ in steps:
        if stop.is_set():
            raise StopRequested
        if query_id.startswith("waits") and may_go(folder.folder.parent):
            break
        time.sleep(STEP_S)
        meter.generation_ended(5)
    folder.write(query_id, answer_of(query_id))


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
