"""A run over its replicas, from the first to the last: what `pipeline_runner.run` does where queries are left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from evaluation.toolbench.inference.multi_gpu.gpu_memory import GpuMemory
from evaluation.toolbench.inference.records.queries import Task
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
from evaluation.toolbench.inference.replicas.process import Handle, ProcessHandle, ThreadHandle
from evaluation.toolbench.inference.replicas.serving import ParentLine
from evaluation.toolbench.inference.replicas.setup import Setup
from evaluation.toolbench.inference.replicas.supervisor import Patience, RunHooks, Supervisor
from evaluation.toolbench.inference.replicas.work import Watch, serve
from evaluation.toolbench.inference.run.interruption import Interruption
from evaluation.toolbench.inference.run.run_files import RunFiles, new_run_id
from evaluation.toolbench.inference.run_display.display import RunDisplay
from evaluation.toolbench.inference.run_display.status import RunStatus

if TYPE_CHECKING:
    from evaluation.toolbench.inference.Downstream_tasks.rapidapi_multithread import pipeline_runner

_SHOW_EVERY_S = 1.0


def run_tasks(runner: pipeline_runner, tasks: Sequence[Task], watch: Watch | None) -> None:
    """Run `tasks` on the replicas of `runner.layout`, counting in `runner.summary`.

    `watch` is over the model in this process, if it is here. ToolGenError for what ends the run; answers
    and failures until then are on disk.
    """
    args, summary = runner.args, runner.summary
    run_id = new_run_id()
    query_ids = [task[2] for task in tasks]
    memory = GpuMemory()
    started = time.monotonic()
    summary.start_clock()
    shown = float("-inf")
    with Interruption() as interruption, RunDisplay(live=not args.disable_tqdm) as display:
        display.print_line(f"{len(tasks)} queries to run")

        def start(spec: ReplicaSpec) -> Handle:
            if runner.layout.is_in_parent:
                return _in_this_process(runner, spec, tasks, watch or Watch(), run_id)
            return _in_its_own(runner, spec, tasks, run_id)

        def ready() -> None:
            if args.overwrite and not runner.layout.is_in_parent:  # only now that a new answer can be expected
                runner.forget_all(query_ids)

        def show() -> None:
            nonlocal shown
            now, elapsed_s = summary.now, time.monotonic() - started
            if elapsed_s - shown < _SHOW_EVERY_S and summary.num_left:
                return
            shown = elapsed_s
            statuses = [
                replace(status, gpu_memory=memory.of(spec.uuids))
                for status, spec in zip(supervisor.statuses(), runner.layout.replicas, strict=True)
            ]
            display.show(RunStatus(len(tasks), now.answered, now.gave_up, now.failed, elapsed_s, tuple(statuses)))

        supervisor = Supervisor(
            query_ids,
            runner.layout,
            RunHooks(
                start=start,
                is_answered=lambda query_id: runner.answers.outcome(query_id) is not None,
                ended=runner.note,
                ready=ready,
                show=show,
            ),
            Patience(args.replica_timeout, args.generation_timeout),
        )
        files = RunFiles(runner.answers.folder, runner.answers.method, run_id, args, runner.layout, runner.load_s)
        status = "failed"
        try:
            supervisor.run(interruption.requested)
            status = "finished" if not summary.num_left else "interrupted" if interruption.exit_code else "failed"
        finally:
            if summary.num_left:
                shown = float("-inf")
                show()  # how it ended
            summary.exit_code_of_signal = interruption.exit_code
            files.end(status, summary, supervisor)


def _in_this_process(
    runner: pipeline_runner,
    spec: ReplicaSpec,
    tasks: Sequence[Task],
    watch: Watch,
    run_id: str,
) -> Handle:
    def run(connection: Connection) -> None:
        # An event of its own, which the supervisor's Stop sets: `interruption.requested` means that a signal came.
        stop = threading.Event()
        serve(ParentLine(connection), lambda: runner.work_of(spec, tasks, watch, run_id), watch, stop)

    return ThreadHandle(run, watch.abandon)


def _in_its_own(runner: pipeline_runner, spec: ReplicaSpec, tasks: Sequence[Task], run_id: str) -> Handle:
    without_backbone: list[Any] = [(task[0], None, *task[2:]) for task in tasks]
    level = logging.getLogger().getEffectiveLevel()
    return ProcessHandle(
        spec,
        Setup(spec, runner.args, without_backbone, run_id, runner.process_id, runner.add_retrieval, level),
    )
