"""Runs the searches of an evaluation over its replicas."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from transformers.utils.logging import disable_progress_bar

from evaluation.toolbench.inference.command_line import say
from evaluation.toolbench.inference.Downstream_tasks.backbones import layout_for
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.multi_gpu.gpu_use import GpuUse
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.handle import Handle, ProcessHandle, ThreadHandle
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
from evaluation.toolbench.inference.replicas.limits import Patience
from evaluation.toolbench.inference.replicas.messages import Loaded, Setup
from evaluation.toolbench.inference.replicas.replica import Replica
from evaluation.toolbench.inference.replicas.supervisor import RunHooks, Supervisor
from evaluation.toolbench.inference.run.interruption import STOPPING, Interruption
from evaluation.toolbench.inference.run.run_clock import RunClock
from evaluation.toolbench.inference.run_display.display import RunDisplay
from evaluation.toolbench.inference.run_display.status import RunStatus
from evaluation.toolbench.retrieval.capacity import workload_of
from evaluation.toolbench.retrieval.job import RetrievalJob
from evaluation.toolbench.retrieval.replica import LOADER, load
from evaluation.toolbench.retrieval.search import Found

_SHOW_EVERY_S = 1.0


@dataclass
class Searches:
    """Runs the items of `job`, in its order. `done` and `failed` are told of the end of each, once."""

    config: RunConfig
    job: RetrievalJob
    done: Callable[[str, Found], None]
    failed: Callable[[str, Problem], None]
    layout: RunLayout = field(init=False)
    exit_code: int | None = None  # 128 + signal when a signal ended it
    loaded: Mapping[int, Loaded] = field(default_factory=dict)
    clock: RunClock = field(default_factory=RunClock)
    _gpus: GpuUse = field(default_factory=GpuUse)
    _num_done: int = 0
    _num_failed: int = 0
    _shown_s: float = float("-inf")
    _has_said_that_it_stops: bool = False

    def __post_init__(self) -> None:
        """Choose the layout. ConfigError, DataError or PlacementError for what cannot be."""
        self.layout = layout_for(self.config, len(self.job.items), workload_of(self.job))
        if self.layout.reasons:
            say(self.layout.reasons)
        hooks = RunHooks(
            start=self._start,
            done=self._note_done,
            failed=self._note_failed,
            ready=self.clock.serve,
            show=self._show,
        )
        patience = Patience(self.config.replica_timeout, call_s=0.0)
        self._supervisor = Supervisor(list(self.job.items), self.layout, hooks, patience)
        self._display = RunDisplay(live=not self.config.disable_tqdm)
        self._interruption = Interruption(says_so=not self._display.is_live)

    def run(self) -> None:
        """Go on until every item is over or a signal asks to stop. ToolGenError for what ends it."""
        if not sys.stderr.isatty():
            disable_progress_bar()  # of loading: it moves the cursor
        with self._interruption as interruption, self._display:
            self._display.print_line(f"{len(self.job.items)} queries to search for")
            try:
                self._supervisor.run(interruption.requested)
            finally:
                self._show(at_once=True)
                self.exit_code = interruption.exit_code
                self.loaded = self._supervisor.loaded()

    def status(self) -> RunStatus:
        """Return how it is doing now."""
        replicas = tuple(
            replace(
                status,
                gpu_memory=self._gpus.memory_of(spec.uuids),
                gpu_busy=self._gpus.busy_percents_of(spec.uuids),
            )
            for status, spec in zip(self._supervisor.statuses(), self.layout.replicas, strict=True)
        )
        return RunStatus(
            num_queries=len(self.job.items),
            answered=self._num_done,
            gave_up=0,
            no_answer=0,
            failed=self._num_failed,
            elapsed_s=self.clock.elapsed_s,
            replicas=replicas,
            serving_s=self.clock.serving_s,
            are_conversations=False,
        )

    def _start(self, spec: ReplicaSpec) -> Handle:
        # A GPU's replica has a process of its own, also where it is the only one: texts and files of the results, which
        # are the parent's work, would take turns with what the engine has to do on the host.
        if not spec.gpus and self.layout.is_in_parent:
            replica = Replica(spec)
            return ThreadHandle(replica, lambda: load(replica, self.job))
        return ProcessHandle(Setup(spec, LOADER, self.job, logging.getLogger().getEffectiveLevel()))

    def _note_done(self, item_id: str, found: Found) -> None:
        self._num_done += 1
        self.done(item_id, found)

    def _note_failed(self, item_id: str, problem: Problem) -> None:
        self._num_failed += 1
        self.failed(item_id, problem)

    def _show(self, *, at_once: bool = False) -> None:
        if self._interruption.exit_code and self._display.is_live and not self._has_said_that_it_stops:
            self._has_said_that_it_stops = True
            self._display.print_line(STOPPING)
        if self.clock.elapsed_s - self._shown_s >= _SHOW_EVERY_S or at_once:
            self._shown_s = self.clock.elapsed_s
            self._display.show(self.status())
