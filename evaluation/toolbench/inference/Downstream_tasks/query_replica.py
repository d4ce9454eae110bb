"""Says what a replica of a run over queries loads and does: ToolBench's part of a replica.

`LOADER` names it to a replica's process; a replica in the parent, whose model is there already, enters
`query_work`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.api_caller import api_caller
from evaluation.toolbench.inference.Downstream_tasks.backbones import (
    checkout_class,
    device_map_of,
    engine_options,
    make_backbone,
)
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig, ToolConfig
from evaluation.toolbench.inference.Downstream_tasks.functions import ToolPackage
from evaluation.toolbench.inference.Downstream_tasks.one_query import Tools, run_query
from evaluation.toolbench.inference.Downstream_tasks.query_calls import QueryCalls
from evaluation.toolbench.inference.Downstream_tasks.seeding import seed_everything
from evaluation.toolbench.inference.Downstream_tasks.tool_files import ToolFiles, read_tools_json
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
from evaluation.toolbench.inference.records.event_log import EventLog
from evaluation.toolbench.inference.records.queries import Task
from evaluation.toolbench.inference.replicas.limits import StopBetweenSteps
from evaluation.toolbench.inference.replicas.memory_sampler import MemorySampler
from evaluation.toolbench.inference.replicas.replica import Replica, Work
from evaluation.toolbench.inference.replicas.watched_engine import watched_query

LOADER = f"{__name__}:load"


@dataclass(frozen=True)
class QueryJob:
    """Holds what every replica of a run is told. Plain values; for a replica's process, tasks are without a model."""

    config: RunConfig
    tasks: Sequence[Task]
    run_id: str
    process_id: int = 0
    add_retrieval: bool = False

    def without_model(self) -> QueryJob:
        return replace(self, tasks=[task._replace(backbone_model=None) for task in self.tasks])


@contextmanager
def load(replica: Replica, job: QueryJob) -> Iterator[Work]:
    """Load the model on the GPUs that this process sees, and be ready for the queries of `job`."""
    replica.keep_to_share()
    seed_everything(job.config.model.seed)
    backbone = load_backbone(job.config, replica, num_gpus=len(replica.spec.gpus))
    tasks = [task._replace(backbone_model=backbone) for task in job.tasks]
    with query_work(replica, replace(job, tasks=tasks)) as work:
        yield work


def load_backbone(config: RunConfig, replica: Replica, *, num_gpus: int) -> Any:
    """Load the model where `replica` puts it, with its engine watched, or return the name of one made per query."""
    from evaluation.toolbench.inference.toolgen.agent_parts import Serving

    serving = Serving(replica.spec.placement, engine_options(config, replica), replica.watch.wrap)
    return make_backbone(config, num_gpus=num_gpus, serving=serving)


def load_retriever(tools: ToolConfig) -> Any:
    """Load the checkout's retriever."""
    retriever = checkout_class("retriever", "ToolRetriever")
    return retriever(corpus_tsv_path=tools.corpus_tsv_path, model_path=tools.retrieval_model_path)


@contextmanager
def query_work(replica: Replica, job: QueryJob) -> Iterator[Work]:
    """Open what the queries of `job`, whose model is loaded, need beside it. OutputError without an event log."""
    config, spec, meter = job.config, replica.spec, replica.watch.meter
    tools = Tools(
        ToolFiles(config.tools.tool_root_dir),
        _tool_package(config.tools),
        load_retriever(config.tools) if job.add_retrieval else None,
    )
    room = replica.admit_by_use(config.model.max_sequence_length) if config.num_thread == AUTO else None
    num_threads = config.num_conversations(len(job.tasks), room)
    is_alone = num_threads == 1 and spec.visible_devices is None
    positions = {task.item_id: position for position, task in enumerate(job.tasks)}
    with ExitStack() as stack:
        logs = {
            folder: stack.enter_context(
                EventLog(
                    Path(folder),
                    spec.number,
                    run_id=job.run_id,
                    gpus=spec.uuids,
                    num_conversations=num_threads,
                    load_s=time.monotonic() - replica.began,
                    shard=config.shard_name,
                )
            )
            for folder in dict.fromkeys(task.output_dir_path for task in job.tasks)
        }
        if spec.uuids:
            stack.enter_context(MemorySampler(list(logs.values()), visible_gpus))

        def run_item(item_id: str) -> None:
            position = positions[item_id]
            task = job.tasks[position]
            log, text = logs[task.output_dir_path], str(task.data_dict["query"])
            with (
                log.query(task.query_id, method=task.method, text=text) as recorder,
                watched_query(config.limits, recorder) as clock,
            ):
                calls = QueryCalls(api_caller(config.tools), clock, meter, recorder)
                run_query(
                    task,
                    config,
                    tools,
                    process_id=job.process_id + (0 if is_alone else position),
                    callbacks=[StopBetweenSteps(replica.stop), clock, recorder, calls],
                    client=calls,
                )

        yield Work.on_threads(run_item, num_threads, device_map_of(job.tasks[0].backbone_model))


def _tool_package(tools: ToolConfig) -> ToolPackage | None:
    """Read what all queries may call, for provider `all`."""
    if tools.function_provider != "all":
        return None
    return ToolPackage.of_tools(read_tools_json(Path(tools.data_dir) / "toolenv" / "tools" / "tools.json"))
