"""The process of a replica. Its environment says which GPUs it sees before anything here is imported."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.process_watch import die_with_parent, when_process_ends
from evaluation.toolbench.inference.replicas.serving import LogToParent, ParentLine

if TYPE_CHECKING:
    from evaluation.toolbench.inference.replicas.setup import Setup

_NOT_OVER = 3  # exit code of a replica that could not load, or was left alone


def main() -> int:
    """`NAME CONNECTION_FD SETUP_FD PARENT_PID` on the command line; 0 after all that was asked is reported."""
    connection_fd, setup_fd, parent = map(int, sys.argv[2:5])
    die_with_parent()
    # Where the kernel does not watch, and for a parent that ended before it did. From a thread of its own, which
    # asks nothing of the model's: the memory is free at once.
    when_process_ends(parent, lambda: os._exit(_NOT_OVER))
    line = ParentLine(Connection(connection_fd))
    with os.fdopen(setup_fd, "rb") as stream:
        setup: Setup = pickle.load(stream)
    logging.basicConfig(format="%(message)s", level=setup.log_level, handlers=[LogToParent(line)])
    return _serve(line, setup)


def _serve(line: ParentLine, setup: Setup) -> int:
    from evaluation.toolbench.inference.Downstream_tasks.rapidapi_multithread import pipeline_runner
    from evaluation.toolbench.inference.Downstream_tasks.seeding import seed_everything
    from evaluation.toolbench.inference.replicas.work import Watch, Work, keep_to_share, serve

    watch = Watch()

    def load() -> Work:
        keep_to_share(setup.spec)
        seed_everything(setup.args.seed)
        runner = pipeline_runner(setup.args, setup.add_retrieval, setup.process_id, server=True)
        backbone = runner.load_backbone(setup.spec, watch)
        tasks = [(task[0], backbone, *task[2:]) for task in setup.tasks]
        return runner.work_of(setup.spec, tasks, watch, setup.run_id)

    is_over = serve(line, load, watch, threading.Event())
    # Threads of the model and of CUDA have nothing left to say, and taking them down in order takes seconds.
    os._exit(0 if is_over else _NOT_OVER)
