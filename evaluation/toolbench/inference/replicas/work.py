"""What a replica does once its model is loaded: queries, with their event log, meters and limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE
from evaluation.toolbench.inference.engine.request import Engine
from evaluation.toolbench.inference.errors import EngineError, EngineStoppedError
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
from evaluation.toolbench.inference.records.event_log import EventLog
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.records.queries import Task
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, conversations_in
from evaluation.toolbench.inference.replicas.limits import (
    StopBetweenSteps,
    TimeLimitError,
    TimeLimits,
    WatchedEngine,
    query_clock,
)
from evaluation.toolbench.inference.replicas.memory_sampler import MemorySampler
from evaluation.toolbench.inference.replicas.messages import Ended, Loaded, LoadFailed
from evaluation.toolbench.inference.replicas.meter import ApiMeter, Meter
from evaluation.toolbench.inference.replicas.metered_engine import MeteredEngine
from evaluation.toolbench.inference.replicas.serving import Heart, ParentLine, ReplicaServer

RunTask = Callable[[Task, int, Sequence[Any]], Any]  # the task, its position, callbacks


class Watch:
    """What a replica knows of its engine: set up before the model loads, and asked while it runs."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.engine: WatchedEngine | None = None  # None: a backbone that brings its own generation

    def wrap(self, engine: Engine) -> Engine:
        """To be put between the agents and `engine`."""
        self.engine = WatchedEngine(engine, self.meter)
        counts = getattr(engine, "counts", None)
        if counts is not None:
            self.meter.engine_steps = lambda: int(counts().steps)
        return MeteredEngine(self.engine)

    @property
    def sees_steps(self) -> bool:
        return self.meter.engine_steps is not None

    def is_broken(self, error: Exception) -> bool:
        """Whether after this error the engine or its GPUs are of no more use."""
        if isinstance(error, EngineStoppedError):
            return True
        return isinstance(error, EngineError) and not isinstance(error, TimeLimitError) and _gpus_are_lost()

    def abandon(self) -> None:
        if self.engine is not None:
            self.engine.abandon()


@dataclass(frozen=True)
class Work:
    """What a replica runs, once its model is loaded."""

    spec: ReplicaSpec
    tasks: Sequence[Task]
    run_task: RunTask
    num_conversations: int
    limits: TimeLimits
    folder: Path  # of answers
    run_id: str
    device_map: dict[str, Any] = field(default_factory=dict)


def serve(line: ParentLine, load: Callable[[], Work], watch: Watch, stop: threading.Event) -> bool:
    """Load, then run what the parent asks for, and tell it everything. False if it hung up, or nothing could load."""
    heart = Heart(line, watch.meter)
    try:
        is_over = _serve_work(line, load(), watch, stop)
    except Exception as error:
        line.send(LoadFailed(Problem.of(error)))
        return False
    finally:
        heart.stop()
    if is_over:
        line.send(Ended())
    return is_over


def _serve_work(line: ParentLine, work: Work, watch: Watch, stop: threading.Event) -> bool:
    """OutputError if there can be no event log."""
    tasks = {task[2]: (position, task) for position, task in enumerate(work.tasks)}
    spec, num_conversations = work.spec, work.num_conversations
    with (
        EventLog(
            work.folder, spec.number, run_id=work.run_id, gpus=spec.uuids, num_conversations=num_conversations
        ) as log,
        MemorySampler(log, visible_gpus) if spec.uuids else nullcontext(),
    ):

        def run_query(query_id: str) -> None:
            position, task = tasks[query_id]
            text = str(task[3]["query"])
            with query_clock(work.limits) as clock, log.query(query_id, method=task[0], text=text) as recorder:
                callbacks = [StopBetweenSteps(stop), clock, recorder, ApiMeter(watch.meter)]
                work.run_task(task, position, callbacks)

        line.send(Loaded(num_conversations, watch.sees_steps, work.device_map))
        return ReplicaServer(line, run_query, stop, watch.is_broken).serve()


def keep_to_share(spec: ReplicaSpec) -> None:
    """Before the model loads, in a process that sees this replica's GPUs only: on a GPU that others use too,
    torch takes no more than this replica's share, so that running out of memory is its own affair."""
    for index, shard in enumerate(spec.placement.shards if spec.placement else ()):
        if shard.target.share > 1:
            fraction = shard.target.budget_bytes / shard.target.gpu.total_bytes
            torch.cuda.set_per_process_memory_fraction(fraction, index)


def conversations_for(watch: Watch, spec: ReplicaSpec, max_tokens: int) -> int | None:
    """How many conversations of up to `max_tokens` the engine's KV cache serves well; None for one without."""
    if watch.engine is None:
        return None
    page_use = getattr(watch.engine.inner, "page_use", None)
    if page_use is None:
        return None
    room = conversations_in(page_use().num_pages * PAGE_SIZE, min(max_tokens, watch.engine.max_length))
    return min(room, spec.most_conversations)


def _gpus_are_lost() -> bool:
    """Whether CUDA answers every call in this process with an error, as it does after a fault of a kernel."""
    if not torch.cuda.is_initialized():
        return False
    try:
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)
    except RuntimeError:
        return True
    return False
