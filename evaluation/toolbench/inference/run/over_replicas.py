"""Runs queries over replicas, from the first to the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.multi_gpu.gpu_use import GpuUse
from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.cut_texts import warning_of
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.handle import Handle
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
from evaluation.toolbench.inference.replicas.limits import Patience
from evaluation.toolbench.inference.replicas.supervisor import RunHooks, Supervisor
from evaluation.toolbench.inference.run.interruption import STOPPING, Interruption
from evaluation.toolbench.inference.run.run_clock import RunClock
from evaluation.toolbench.inference.run.run_files import files_of
from evaluation.toolbench.inference.run.sets import RunSet, RunSets
from evaluation.toolbench.inference.run.summary import RunSummary
from evaluation.toolbench.inference.run_display.display import RunDisplay
from evaluation.toolbench.inference.run_display.status import RunStatus, SetStatus

_SHOW_EVERY_S = 1.0
_NOTE_EVERY_S = 10.0  # how old run.json is when a run is killed


@dataclass(frozen=True)
class RunPlan:
    """Tells a run over queries what to run, from whoever has the queries and knows how to run one."""

    run_id: str
    sets: Sequence[RunSet]
    summary: RunSummary  # of these sets
    layout: RunLayout
    start: Callable[[ReplicaSpec], Handle]  # a replica that runs these queries
    patience: Patience
    configuration: Mapping[str, Any]  # for run.json: what the run was told, by the names of the flags
    settings: Mapping[str, Any]  # for run.json: those of them that decide the answers
    seed: int
    shard: str = ""  # of the queries, for the names of the run's files
    mixed_settings: Mapping[Path, Sequence[str]] = field(default_factory=dict)  # of other answers that stay
    changed: Sequence[str] = ()  # of these names, those that have not their defaults
    load_s: float = 0.0  # that the model in this process took, if it is here
    replaces_answers: bool = False  # those that earlier runs left are removed when the first replica is ready
    fail_after: int = 0  # failures in a row that end the run; 0: none do
    is_live: bool = True  # a progress display where there is a terminal; else a line now and then


def run_tasks(plan: RunPlan) -> None:
    """Run the queries of `plan` on its replicas, counting in its progress.

    ToolGenError for what ends the run; answers and failures until then are on disk.
    """
    _Run(plan).run()


class _Run:
    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._summary = plan.summary
        self._sets = RunSets(plan.sets)
        self._gpus = GpuUse()
        self._shown_s = float("-inf")  # after the start
        self._noted_s = 0.0
        self._clock = RunClock(plan.load_s)
        self._display = RunDisplay(live=plan.is_live)
        self._interruption = Interruption(says_so=not self._display.is_live)
        self._has_said_that_it_stops = False
        self._has_warned_of_cuts = False
        hooks = RunHooks(
            start=plan.start,
            done=lambda item_id, _: self._sets.note_answer(item_id),
            failed=self._note_failure,
            is_done=self._sets.is_answered,
            ready=self._begin,
            show=self._show,
        )
        self._num_items = len(self._sets.item_ids)
        self._supervisor = Supervisor(self._sets.item_ids, plan.layout, hooks, plan.patience)
        self._files = files_of(
            self._sets,
            plan.run_id,
            plan.layout,
            configuration=plan.configuration,
            settings=plan.settings,
            mixed_settings=plan.mixed_settings,
            changed=plan.changed,
            replaces_answers=plan.replaces_answers,
            seed=plan.seed,
            shard=plan.shard,
            load_s=plan.load_s,
        )

    def run(self) -> None:
        summary = self._summary
        with self._interruption as interruption, self._display:
            self._display.print_line(f"{self._num_items} quer{'y' if self._num_items == 1 else 'ies'} to run")
            status = "failed"
            try:
                self._supervisor.run(interruption.requested)
                if not summary.num_left:
                    status = "finished"
                elif interruption.exit_code:
                    status = "interrupted"
            finally:
                if summary.num_left:
                    self._show(at_once=True)  # how it ended
                self._sum_up()
                for files in self._files:
                    files.end(status, self._supervisor.loaded(), self._clock, summary.rates)

    def _begin(self) -> None:
        """Remove, as the first replica is ready, the answers that the run replaces: new ones can now be expected."""
        self._clock.serve()
        if self._plan.replaces_answers:
            self._sets.forget()
            for files in self._files:
                files.use_settings()

    def _note_failure(self, item_id: str, problem: Problem) -> None:
        limit = self._plan.fail_after
        self._sets.note_failure(item_id, problem)
        if self._sets.failures_in_a_row == limit:
            self._display.print_line(
                f"{limit} queries in a row have failed, so the run ends here (--fail_after {limit}; 0 goes on whatever "
                "happens). The same command tries them again."
            )
            self._interruption.requested.set()

    def _sum_up(self) -> None:
        status = self._status()
        summary = self._summary
        summary.exit_code_of_signal = self._interruption.exit_code
        summary.rates = status.rates
        summary.api_calls = sum(replica.api_calls for replica in status.replicas)
        summary.api_errors = sum(replica.api_errors for replica in status.replicas)
        summary.cache = CacheUse.total(replica.cache for replica in status.replicas)

    def _show(self, *, at_once: bool = False) -> None:
        if self._interruption.exit_code and self._display.is_live and not self._has_said_that_it_stops:
            self._has_said_that_it_stops = True
            self._display.print_line(STOPPING)
        elapsed_s = self._clock.elapsed_s
        if elapsed_s - self._shown_s < _SHOW_EVERY_S and self._summary.num_left and not at_once:
            return
        self._shown_s = elapsed_s
        status = self._status()
        self._display.show(status)
        self._warn_of_cuts(status)
        if elapsed_s - self._noted_s >= _NOTE_EVERY_S:
            self._noted_s = elapsed_s
            for files in self._files:
                files.note(self._supervisor.loaded(), status, self._clock)

    def _warn_of_cuts(self, status: RunStatus) -> None:
        num_texts = sum(replica.num_texts for replica in status.replicas)
        warning = warning_of(num_texts, sum(replica.num_cut for replica in status.replicas))
        if warning is not None and not self._has_warned_of_cuts:
            self._has_warned_of_cuts = True
            self._display.print_line(warning)

    def _status(self) -> RunStatus:
        replicas = tuple(
            replace(
                status,
                gpu_memory=self._gpus.memory_of(spec.uuids),
                gpu_busy=self._gpus.busy_percents_of(spec.uuids),
            )
            for status, spec in zip(self._supervisor.statuses(), self._plan.layout.replicas, strict=True)
        )
        now = self._summary.now
        has_several = len(self._plan.sets) > 1
        return RunStatus(
            num_queries=self._num_items,
            answered=now.answered,
            gave_up=now.gave_up,
            no_answer=now.no_answer,
            failed=now.failed,
            elapsed_s=self._clock.elapsed_s,
            replicas=replicas,
            serving_s=self._clock.serving_s,
            sets=tuple(_status_of(each) for each in self._plan.sets if each.query_ids) if has_several else (),
        )


def _status_of(each: RunSet) -> SetStatus:
    summary = each.progress.summary
    now = summary.now
    return SetStatus(summary.name, len(each.query_ids), now.answered, now.gave_up, now.no_answer, now.failed)
