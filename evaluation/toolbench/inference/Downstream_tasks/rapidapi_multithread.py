"""Runs a file of queries, as ToolBench calls it: which are left, with what model, and one query alone."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.toolbench.inference.Algorithms.base_search import base_search_method
from evaluation.toolbench.inference.command_line import say
from evaluation.toolbench.inference.Downstream_tasks.answer_settings import answer_settings, mixed_settings
from evaluation.toolbench.inference.Downstream_tasks.api_caller import api_caller
from evaluation.toolbench.inference.Downstream_tasks.backbones import layout_for, model_for_query, sampling_of
from evaluation.toolbench.inference.Downstream_tasks.config import DEFAULTS, RunConfig
from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.functions import (
    ToolPackage,
    api_json_to_openai_json,
    fetch_api_json_from_tool,
)
from evaluation.toolbench.inference.Downstream_tasks.methods import parse_method
from evaluation.toolbench.inference.Downstream_tasks.one_query import Tools, run_query, search
from evaluation.toolbench.inference.Downstream_tasks.query_sets import read_query_sets
from evaluation.toolbench.inference.Downstream_tasks.recorded_apis import check_replies
from evaluation.toolbench.inference.Downstream_tasks.tool_files import ToolFiles, contain, get_white_list
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.lock import RunLocks
from evaluation.toolbench.inference.records.queries import Query, Task, in_run_order, read_replacements
from evaluation.toolbench.inference.run.failure_causes import FailureCauses
from evaluation.toolbench.inference.run.progress import RunProgress
from evaluation.toolbench.inference.run.sets import RunSet
from evaluation.toolbench.inference.run.summary import RunSummary
from evaluation.toolbench.inference.Tree.base_env import base_env
from evaluation.toolbench.virtual_api.client import VIRTUAL_TIMEOUT_S, ApiClient

if TYPE_CHECKING:
    from evaluation.toolbench.inference.replicas.handle import Handle
    from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
    from evaluation.toolbench.inference.replicas.replica import Replica

__all__ = [
    "api_json_to_openai_json",
    "contain",
    "fetch_api_json_from_tool",
    "get_white_list",
    "pipeline_runner",
    "rapidapi_wrapper",
]

logger = logging.getLogger(__name__)


class pipeline_runner:
    """Holds the queries of `args.input_query_file`, one or several, that are left, and runs them.

    Making one reads the queries and, if any is left, chooses the replicas' layout and loads the model if that is
    to be in this process; `server` makes one without queries. With `check_first`, what would end `run` is found
    before the model loads: a folder of answers that another run uses, an API server that is down. A ToolGenError
    says what does not allow the run; a query's own error does not.
    """

    def __init__(
        self,
        args: Any,
        add_retrieval: bool = False,
        process_id: int = 0,
        server: bool = False,
        *,
        check_first: bool = False,
    ) -> None:
        self.args = args
        self.config = RunConfig.of(args)
        self.add_retrieval = add_retrieval
        self.process_id = process_id
        self.server = server
        self.replace_queries = read_replacements(self.config.replace_file)
        self._check_first = check_first
        self._progress: list[RunProgress] = []  # of each set of queries
        self._query_files: list[str] = []  # of each set of queries
        self._summary = RunSummary([])
        self._locks = RunLocks([])
        self._tool_files = ToolFiles(self.config.tools.tool_root_dir)
        self._layout: RunLayout | None = None  # of the replicas; where there is a query left
        self._replica: Replica | None = None  # the one in this process, if its model is here
        self._load_s = 0.0
        self._mixed_settings: dict[Path, list[str]] = {}  # of each folder that has answers
        self.task_list: list[Task] = [] if server else self.generate_task_list()

    def get_args(self) -> Any:
        return self.args

    def get_backbone_model(self) -> Any:
        """Load the model in this process, or return the name of one that every query makes anew."""
        import torch

        from evaluation.toolbench.inference.Downstream_tasks.query_replica import load_backbone
        from evaluation.toolbench.inference.replicas.layout import one_replica
        from evaluation.toolbench.inference.replicas.replica import Replica
        from evaluation.toolbench.inference.replicas.watched_engine import Watch

        started = time.monotonic()
        num_gpus = torch.cuda.device_count() if self.config.gpus.num_gpus is None else self.config.gpus.num_gpus
        watch = Watch(lambda: say("Compiling its layers: half a minute or more the first time, less later"))
        self._replica = Replica((self._layout or one_replica()).replicas[0], watch)
        backbone = load_backbone(self.config, self._replica, num_gpus=num_gpus)
        self._load_s = time.monotonic() - started
        return backbone

    def get_retriever(self) -> Any:
        """Load the checkout's retriever."""
        from evaluation.toolbench.inference.Downstream_tasks.query_replica import load_retriever

        return load_retriever(self.config.tools)

    def generate_task_list(self) -> list[Task]:
        """Return the queries that have no complete answer, in the order of the run; load the model for them."""
        config, causes = self.config, FailureCauses()
        sets = read_query_sets(config, self.replace_queries)
        self._query_files = [each.place.query_file for each in sets]
        self._progress = [
            RunProgress(place.answer_folder, place.method, name=place.name, causes=causes)
            for place in (each.place for each in sets)
        ]
        self._summary = RunSummary([progress.summary for progress in self._progress], causes=causes)
        self._locks = RunLocks((each.answers.folder for each in self._progress), shard=config.shard_name)
        for progress in self._progress:
            progress.answers.prepare()
        if self._check_first:
            self._locks.acquire()
        try:
            left = []
            for each, progress in zip(sets, self._progress, strict=True):
                queries = in_run_order(
                    each.queries, lambda query: query.api_list is None or self._tool_descriptions(query) is not None
                )
                progress.summary.num_queries = len(queries)
                left.append(queries if config.overwrite else progress.left_of(queries))
            self._compare_settings(left)
            self._check_recorded_apis([query for queries in left for query in queries])
            num_left = sum(map(len, left))
            backbone = self._prepare(num_left) if num_left else None
        except BaseException:
            self._locks.release()
            raise
        return [
            Task(
                progress.answers.method,
                backbone,
                query.query_id,
                query.data_dict(),
                self.args,
                str(progress.answers.folder),
                self._tool_descriptions(query),
            )
            for progress, queries in zip(self._progress, left, strict=True)
            for query in queries
        ]

    def method_converter(
        self,
        backbone_model: Any,
        openai_key: str,
        method: str,
        env: base_env,
        process_id: int,
        single_chain_max_step: int = 12,
        max_query_count: int = 60,
        callbacks: Sequence[Any] | None = None,
        query_id: str = "",
    ) -> tuple[base_search_method, int]:
        """Run `method` on one query; return (search, result). `query_id` names the conversation to the model."""
        return search(
            parse_method(method),
            model_for_query(backbone_model, query_id, replace(self.config.checkout, openai_key=openai_key)),
            env,
            process_id=process_id,
            single_chain_max_step=single_chain_max_step,
            max_query_count=max_query_count,
            callbacks=callbacks,
        )

    def run_single_task(
        self,
        method: str,
        backbone_model: Any,
        query_id: str,
        data_dict: dict[str, Any],
        args: Any,
        output_dir_path: str,
        tool_des: list[list[str]] | None,
        tool_package: ToolPackage | Mapping[str, Any] | None,
        retriever: Any = None,
        process_id: int = 0,
        callbacks: Sequence[Any] | None = None,
        server: Any = None,
    ) -> int | None:
        """Run one query and write its answer; return the search's result, None where there is an answer already.

        The first seven arguments are a `Task`; for the others see `one_query.run_query`. `tool_package` is what
        provider `all` may call. `server` is there for ToolBench's callers and not used.
        """
        data_dict = {**data_dict, "query": self.replace_queries.get(str(query_id), data_dict["query"])}
        return run_query(
            Task(method, backbone_model, query_id, data_dict, args, output_dir_path, tool_des),
            RunConfig.of(args),
            Tools(self._tool_files, tool_package, retriever),
            process_id=process_id,
            callbacks=callbacks,
        )

    def run(self) -> RunSummary:
        """Run what is left and print what came of it. A query that fails is recorded, and the rest runs."""
        with self._locks:
            if self.task_list:
                self._run_tasks()
            with contextlib.suppress(OSError, SystemExit):  # which rich raises where nobody reads
                self._summary.print()
        return self._summary

    def _run_tasks(self) -> None:
        # They import torch: not for a run with nothing left.
        from evaluation.toolbench.inference.Downstream_tasks.query_replica import LOADER, QueryJob, query_work
        from evaluation.toolbench.inference.replicas.handle import ProcessHandle, ThreadHandle
        from evaluation.toolbench.inference.replicas.layout import one_replica
        from evaluation.toolbench.inference.replicas.limits import Patience
        from evaluation.toolbench.inference.replicas.messages import Setup
        from evaluation.toolbench.inference.replicas.replica import Replica
        from evaluation.toolbench.inference.run.over_replicas import RunPlan, run_tasks
        from evaluation.toolbench.inference.run.run_files import new_run_id

        if not self._check_first:
            self._check_api_server()
        layout = self._layout or one_replica()
        config = self.config
        job = QueryJob(config, self.task_list, new_run_id(), self.process_id, self.add_retrieval)

        def start(spec: ReplicaSpec) -> Handle:
            if layout.is_in_parent:
                replica = self._replica or Replica(spec)
                return ThreadHandle(replica, lambda: query_work(replica, job))
            level = logging.getLogger().getEffectiveLevel()
            return ProcessHandle(Setup(spec, LOADER, job.without_model(), level))

        plan = RunPlan(
            run_id=job.run_id,
            sets=self._run_sets(),
            summary=self._summary,
            layout=layout,
            start=start,
            patience=Patience(config.replica_timeout, config.generation_timeout, call_s=VIRTUAL_TIMEOUT_S),
            configuration={**vars(self.args), **config.flags(), "sampling": sampling_of(config.model)},
            settings=answer_settings(config),  # now that a model of the Hub is here
            mixed_settings=self._mixed_settings,
            changed=[name for name, value in config.flags().items() if value != DEFAULTS[name]],
            seed=config.model.seed,
            shard=config.shard_name,
            load_s=self._load_s,
            replaces_answers=config.overwrite,
            fail_after=config.fail_after,
            is_live=not config.disable_tqdm,
        )
        run_tasks(plan)

    def _compare_settings(self, left: Sequence[Sequence[Query]]) -> None:
        """Hold the answers that stay in each folder to this run's settings. ConfigError for those of others."""
        settings = answer_settings(self.config)
        for progress, queries in zip(self._progress, left, strict=True):
            folder = progress.answers.folder
            replaced = [query.query_id for query in queries] if self.config.overwrite else []
            found = mixed_settings(self.config, settings, folder, progress.other_texts, replaced)
            self._mixed_settings[folder] = list(dict.fromkeys([*self._mixed_settings.get(folder, []), *found]))

    def _run_sets(self) -> list[RunSet]:
        items: dict[tuple[str, str], dict[str, str]] = {}
        for task in self.task_list:
            items.setdefault((task.output_dir_path, task.method), {})[task.item_id] = task.query_id
        return [
            RunSet(query_file, progress, items.get((str(progress.answers.folder), progress.answers.method), {}))
            for query_file, progress in zip(self._query_files, self._progress, strict=True)
        ]

    def _prepare(self, num_queries: int) -> Any:
        """Choose the layout, say why, and load the model if this process has it; return the backbone, else None."""
        if self._check_first:
            self._check_api_server()
        self._layout = layout_for(self.config, num_queries)
        if self._layout.reasons:
            say(self._layout.reasons)
        if not self._layout.is_in_parent:
            return None
        # They import torch: not for a run that is refused.
        from transformers.utils.logging import disable_progress_bar

        from evaluation.toolbench.inference.Downstream_tasks.seeding import seed_everything

        where = ", ".join(self._layout.replicas[0].gpus) or "the CPU"
        if self.config.model.is_toolgen and self.config.model.engine != "server":
            say(f"Loading {self.config.model.model_path} on {where}")
        if not sys.stderr.isatty():
            disable_progress_bar()  # of loading: it moves the cursor
        seed_everything(self.config.model.seed)
        return self.get_backbone_model()

    def _check_api_server(self) -> None:
        """Raise ApiError now rather than let every query fail."""
        client = api_caller(self.config.tools)
        if isinstance(client, ApiClient):
            client.check()

    def _check_recorded_apis(self, queries: Sequence[Query]) -> None:
        """Raise DataError rather than run `queries` on a response cache that answers none of their calls.

        ApiError rather than run them without the simulator that is asked for.
        """
        client = api_caller(self.config.tools)
        if queries and isinstance(client, ApiClient):
            check_replies(client, queries)

    def _tool_descriptions(self, query: Query) -> list[list[str]] | None:
        """Describe the query's tools; None where one is unknown: its environment then says so, and the query fails."""
        try:
            return None if query.api_list is None else self._tool_files.descriptions(query.api_list)
        except DataError:
            return None
