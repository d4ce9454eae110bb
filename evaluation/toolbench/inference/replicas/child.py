"""Runs a replica's process. Its environment says which GPUs it sees before anything here is imported."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from evaluation.toolbench.inference.process_watch import die_with_parent, when_process_ends
from evaluation.toolbench.inference.replicas.messages import Setup
from evaluation.toolbench.inference.replicas.replica import Loader, LogToParent, ParentLine, Replica, Work, serve

_NOT_OVER = 3  # exit code of a replica that could not load, or was left alone


def main() -> int:
    """Run as `NAME CONNECTION_FD SETUP_FD PARENT_PID`; the exit code is 0 after all that was asked is reported."""
    connection_fd, setup_fd, parent = map(int, sys.argv[2:5])
    die_with_parent()
    # Where the kernel does not watch, and for a parent that ended before it did. From a thread of its own, which
    # asks nothing of the model's: the memory is free at once.
    when_process_ends(parent, lambda: os._exit(_NOT_OVER))
    line = ParentLine(Connection(connection_fd))
    with os.fdopen(setup_fd, "rb") as stream:
        setup: Setup = pickle.load(stream)
    logging.basicConfig(format="%(message)s", level=setup.log_level, handlers=[LogToParent(line)])
    replica = Replica(setup.spec)
    is_over = serve(line, replica, lambda: _loaded(replica, setup))
    # Threads of the model and of CUDA have nothing left to say, and taking them down in order takes seconds.
    os._exit(0 if is_over else _NOT_OVER)


@contextmanager
def _loaded(replica: Replica, setup: Setup) -> Iterator[Work]:
    """Load, and leave what that has made out of all later garbage collections.

    Those of a million objects of libraries take a third of a second each, in which no step is planned.
    """
    with _loader(setup.loader)(replica, setup.job) as work:
        gc.collect()
        gc.freeze()
        yield work


def _loader(path: str) -> Loader:
    module, _, function = path.partition(":")
    loader: Loader = getattr(importlib.import_module(module), function)
    return loader
