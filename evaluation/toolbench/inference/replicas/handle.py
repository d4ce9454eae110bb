"""Handles a replica for the parent: as a process of its own (`child`), or as a thread of the parent's."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Protocol

from evaluation.toolbench.inference.process_watch import how_it_ended, unnamed_file
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
from evaluation.toolbench.inference.replicas.messages import Setup
from evaluation.toolbench.inference.replicas.replica import ParentLine, Replica, Work, serve

# The parent's module path, so that the replica finds the same modules, whatever folder it is started in.
_BOOT = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "sys.exit(importlib.import_module(sys.argv.pop(1)).main())"
)
_CHILD = "evaluation.toolbench.inference.replicas.child"
_LAST_WORDS = 2000  # bytes of a dead replica's output that are looked at
_PATIENCE_S = 10.0  # for a process that says it has ended


class Handle(Protocol):
    """Holds one start of a replica."""

    connection: Connection
    can_restart: bool  # whether it can be killed and started anew

    def ended(self) -> str | None:
        """Say in words how it ended; None while it runs."""
        ...

    def end(self, *, by_force: bool) -> None:
        """Wait for a replica that has said `Ended`, or end it now whatever it does. May be called twice."""
        ...


class ProcessHandle:
    """Starts a replica in a new process, which sees the GPUs of `setup.spec` and no others.

    `setup` goes through a file without a name, so that neither side waits. What the process prints is kept in
    case it dies.
    """

    can_restart = True

    def __init__(self, setup: Setup) -> None:
        ours, theirs = socket.socketpair()
        with unnamed_file("setup") as setup_file, theirs:
            pickle.dump(setup, setup_file)
            setup_file.seek(0)
            self._output = unnamed_file("output")
            inherited = (theirs.fileno(), setup_file.fileno())
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _BOOT, json.dumps(sys.path), _CHILD, setup.spec.name),
                    *map(str, (*inherited, os.getpid())),
                ],
                env=environment_of(setup.spec, dict(os.environ)),
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,  # a Ctrl-C is the parent's alone, which asks its replicas to stop
            )
        self.connection: Connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> str | None:
        code = self._process.poll()
        return None if code is None else how_it_ended(code, self._last_line())

    def end(self, *, by_force: bool) -> None:
        if not by_force:
            self.connection.close()
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                by_force = True
        if by_force:
            self._process.kill()
            self._process.wait()
            self.connection.close()
        self._output.close()

    def _last_line(self) -> str:
        if self._output.closed:
            return ""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _LAST_WORDS))
        lines = self._output.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class ThreadHandle:
    """Holds the one replica that lives in the parent, on a daemon thread that enters what `load` returns.

    It cannot be killed: by force it is left to itself, and what it waits for is let go of.
    """

    can_restart = False

    def __init__(self, replica: Replica, load: Callable[[], AbstractContextManager[Work]]) -> None:
        self.connection, theirs = Pipe()
        self._replica = replica

        def run() -> None:
            with theirs:
                serve(ParentLine(theirs), replica, load)

        self._thread = threading.Thread(target=run, name="replica 0", daemon=True)
        self._thread.start()

    def ended(self) -> str | None:
        return None if self._thread.is_alive() else "its thread ended"

    def end(self, *, by_force: bool) -> None:
        self.connection.close()
        if by_force:
            self._replica.watch.abandon()
        else:
            self._thread.join(_PATIENCE_S)


def environment_of(spec: ReplicaSpec, environment: dict[str, str]) -> dict[str, str]:
    """Turn the parent's environment into that of a replica's process."""
    if spec.visible_devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = spec.visible_devices
    if spec.num_cpu_threads is not None:
        given = environment.get("OMP_NUM_THREADS", "")
        own = min(int(given), spec.num_cpu_threads) if given.isdecimal() else spec.num_cpu_threads
        environment["OMP_NUM_THREADS"] = str(own)
    return environment
