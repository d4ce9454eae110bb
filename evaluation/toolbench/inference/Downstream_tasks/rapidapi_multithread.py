"""A run over a file of queries: which are left, with what model, and one query from its text to its answer file."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.toolbench.inference.Algorithms.base_search import base_search_method
from evaluation.toolbench.inference.Algorithms.DFS import DFS_tree_search
from evaluation.toolbench.inference.Algorithms.events import Events
from evaluation.toolbench.inference.Algorithms.single_chain import single_chain
from evaluation.toolbench.inference.Downstream_tasks.api_caller import api_caller
from evaluation.toolbench.inference.Downstream_tasks.backbones import (
    checkout_class,
    conversation_of,
    device_map_of,
    end_conversation,
    engine_options,
    make_backbone,
)
from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.functions import (
    ToolPackage,
    api_json_to_openai_json,
    fetch_api_json_from_tool,
)
from evaluation.toolbench.inference.Downstream_tasks.methods import CotMethod, parse_method
from evaluation.toolbench.inference.Downstream_tasks.options import complete_options, num_conversations
from evaluation.toolbench.inference.Downstream_tasks.tool_files import (
    ToolFiles,
    contain,
    get_white_list,
    read_tools_json,
)
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.records.failures import FailureLog
from evaluation.toolbench.inference.records.lock import RunLock
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.records.queries import (
    Query,
    Task,
    in_run_order,
    read_queries,
    read_replacements,
)
from evaluation.toolbench.inference.run.summary import RunSummary
from evaluation.toolbench.inference.Tree.base_env import base_env
from evaluation.toolbench.virtual_api.client import ApiClient

if TYPE_CHECKING:
    from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
    from evaluation.toolbench.inference.replicas.work import Watch, Work

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
    """The queries of `args.input_query_file` that are left, and how to run them.

    Making one takes the folder of answers for itself, reads the queries and, if any is left, looks for the API
    server, chooses the replicas' layout, and loads the model if it is to be in this process. `server` makes one
    without queries. A ToolGenError says what does not allow the run; a query's own error does not.
    """

    layout: RunLayout  # of the replicas; where there is a query left

    def __init__(self, args: Any, add_retrieval: bool = False, process_id: int = 0, server: bool = False) -> None:
        self.args = complete_options(args)
        self.add_retrieval = add_retrieval
        self.process_id = process_id
        self.server = server
        self.replace_queries = read_replacements(args.replace_file)
        self.answers = AnswerFolder(args.output_answer_file, args.method)
        self.failures = FailureLog(args.output_answer_file, args.method)
        self.tool_files = ToolFiles(args.tool_root_dir)
        self.summary = RunSummary(self.answers.folder, num_queries=0)
        self.load_s = 0.0  # of the model in this process
        self._watch: Watch | None = None  # over that model's engine
        self._lock = RunLock(self.answers.folder)
        self.task_list: list[Task] = [] if server else self.generate_task_list()

    def get_args(self) -> Any:
        return self.args

    def get_backbone_model(self) -> Any:
        """The loaded model, or the name of one that every query makes anew."""
        from evaluation.toolbench.inference.replicas.layout import one_replica
        from evaluation.toolbench.inference.replicas.work import Watch

        spec = self.layout.replicas[0] if hasattr(self, "layout") else one_replica().replicas[0]
        self._watch = Watch()
        return self.load_backbone(spec, self._watch)

    def load_backbone(self, spec: ReplicaSpec, watch: Watch) -> Any:
        """The same, where `spec` puts it and watched by `watch`."""
        from evaluation.toolbench.inference.toolgen.agent_parts import Serving

        started = time.monotonic()
        options = engine_options(self.args, spec)
        backbone = make_backbone(self.args, Serving(spec.placement, options, watch.wrap))
        self.load_s = time.monotonic() - started
        return backbone

    def get_retriever(self) -> Any:
        """The checkout's retriever."""
        return checkout_class("retriever", "ToolRetriever")(
            corpus_tsv_path=self.args.corpus_tsv_path, model_path=self.args.retrieval_model_path
        )

    def generate_task_list(self) -> list[Task]:
        """The queries that have no complete answer, in the order of the run; the model is loaded if there are any."""
        args = self.args
        queries = in_run_order(
            read_queries(
                Path(args.input_query_file),
                self.replace_queries,
                needs_api_list=args.function_provider == "truth",
            ),
            lambda query: query.api_list is None or self._tool_descriptions(query) is not None,
        )
        self.answers.prepare()
        self._lock.acquire()
        try:
            return self._tasks_of(queries)
        except BaseException:
            self._lock.release()
            raise

    def _tasks_of(self, queries: Sequence[Query]) -> list[Task]:
        args = self.args
        self.summary.num_queries = len(queries)
        left = queries if args.overwrite else self._left_of(queries)
        if not left:
            return []
        self._check_api_server()
        backbone = self._prepare_replicas(len(left))
        if args.overwrite and self.layout.is_in_parent:  # only now that a new answer can be expected
            self.forget_all(query.query_id for query in queries)
        folder = str(self.answers.folder)
        return [
            (args.method, backbone, query.query_id, query.data_dict(), args, folder, self._tool_descriptions(query))
            for query in left
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
        """Run `method` on one query: (the search, its result). `query_id` names the conversation to the model."""
        wanted = parse_method(method)
        llm = conversation_of(backbone_model, query_id, self.args, openai_key)
        try:
            if isinstance(wanted, CotMethod):
                chain = single_chain(llm, env, process_id=process_id, callbacks=callbacks)
                return chain, chain.start(single_chain_max_step, pass_at=wanted.num_tries, answer=1)
            tree = DFS_tree_search(llm, env, process_id=process_id, callbacks=callbacks)
            return tree, tree.start(
                single_chain_max_step, wanted.width, max_query_count, answer=1, with_filter=wanted.with_filter
            )
        finally:
            end_conversation(llm)

    def run_single_task(
        self,
        method: str,
        backbone_model: Any,
        query_id: str,
        data_dict: dict[str, Any],
        args: Any,
        output_dir_path: str,
        tool_des: list[list[str]] | None,
        tool_package: ToolPackage | None,
        retriever: Any = None,
        process_id: int = 0,
        callbacks: Sequence[Any] | None = None,
        server: Any = None,
    ) -> int | None:
        """Run one query and write its answer; the search's result, None where there is an answer already.

        `tool_package` is what provider `all` may call. `callbacks` are told of what happens (`events.py`).
        Whatever goes wrong is raised and nothing is written. `server` is taken for ToolBench's callers.
        """
        answers = AnswerFolder(output_dir_path, method)
        if answers.outcome(query_id) is not None:
            return None
        data_dict = {**data_dict, "query": self.replace_queries.get(str(query_id), data_dict["query"])}
        events = Events(callbacks)
        events.send("on_tool_retrieval_start")
        env = rapidapi_wrapper(
            data_dict,
            tool_des,
            args.function_provider,
            tool_package,
            retriever,
            args,
            process_id=process_id,
            client=api_caller(args),
            tool_files=self.tool_files,
        )
        events.send("on_tool_retrieval_end", tools=[function["function"] for function in env.truth_functions.values()])
        events.send("on_request_start", user_input=data_dict["query"], method=method)
        chain, result = self.method_converter(
            backbone_model,
            args.openai_key,
            method,
            env,
            process_id,
            single_chain_max_step=args.single_chain_max_step,
            max_query_count=args.max_query_count,
            callbacks=callbacks,
            query_id=query_id,
        )
        record = chain.to_json(answer=True, process=True)
        if tool_package is not None:
            del record["answer_generation"]["function"]  # 47,000 of them, the same in every file
        record["answer_generation"]["query"] = data_dict["query"]
        answers.write(query_id, record)
        outputs = record["answer_generation"]["final_answer"]
        events.send("on_request_end", chain=chain.final_messages(), outputs=outputs)
        return result

    def run(self) -> RunSummary:
        """Run what is left and print what came of it. A query that fails is recorded, and the rest runs."""
        with self._lock:
            if self.task_list:
                # It imports torch: not for a run with nothing left.
                from evaluation.toolbench.inference.run.over_replicas import run_tasks

                run_tasks(self, self.task_list, self._watch)
            with contextlib.suppress(OSError, SystemExit):  # which rich raises where nobody reads
                self.summary.print()
        return self.summary

    def work_of(self, spec: ReplicaSpec, tasks: Sequence[Task], watch: Watch, run_id: str) -> Work:
        """What a replica has to know beside its model, which is in the tasks and watched by `watch`."""
        from evaluation.toolbench.inference.replicas.limits import TimeLimits
        from evaluation.toolbench.inference.replicas.work import Work, conversations_for

        args = self.args
        tool_package = self._tool_package()
        retriever = self.get_retriever() if self.add_retrieval else None
        room = conversations_for(watch, spec, args.max_sequence_length)
        num_threads = num_conversations(args.num_thread, args.engine, len(tasks), room)
        is_alone = num_threads == 1 and spec.visible_devices is None

        def run_task(task: Task, position: int, callbacks: Sequence[Any]) -> None:
            process_id = self.process_id + (0 if is_alone else position)
            self.run_single_task(*task, tool_package, retriever, process_id=process_id, callbacks=callbacks)

        return Work(
            spec,
            tasks,
            run_task,
            num_threads,
            TimeLimits(args.generation_timeout, args.step_timeout, args.query_timeout),
            self.answers.folder,
            run_id,
            device_map_of(tasks[0][1]),
        )

    def note(self, query_id: str, problem: Problem | None) -> None:
        """Count a query that has ended, and keep failures.json true."""
        if problem is None:
            self.failures.forget([query_id])
            self.summary.now.add(self.answers.outcome(query_id))
            return
        logger.warning("query %s failed: %s: %s", query_id, problem.type, " ".join(problem.message.split())[:500])
        self.failures.record(query_id, problem)
        self.summary.now.add(None)

    def forget_all(self, query_ids: Iterable[str]) -> None:
        """Remove what earlier runs of this method left of these queries, and nothing else."""
        forgotten = list(query_ids)
        self.answers.remove(forgotten)
        self.failures.forget(forgotten)

    def _prepare_replicas(self, num_queries: int) -> Any:
        """Choose the layout, say why, and load the model if this process has it: the backbone, else None."""
        from transformers.utils.logging import disable_progress_bar

        from evaluation.toolbench.inference.Downstream_tasks.seeding import seed_everything
        from evaluation.toolbench.inference.replicas.choice import choose_layout

        self.layout = choose_layout(self.args, num_queries)
        if self.layout.reasons:
            with contextlib.suppress(OSError):  # a terminal that was closed is no reason to end a run
                print(self.layout.reasons, file=sys.stderr)
        if not self.layout.is_in_parent:
            return None
        if not sys.stderr.isatty():
            disable_progress_bar()  # of loading: it moves the cursor
        seed_everything(self.args.seed)
        return self.get_backbone_model()

    def _left_of(self, queries: Sequence[Query]) -> list[Query]:
        """The queries without a complete answer; the others are counted as done earlier."""
        left, done = [], []
        for query in queries:
            outcome = self.answers.outcome(query.query_id)
            if outcome is None:
                left.append(query)
            else:
                done.append(query.query_id)
                self.summary.earlier.add(outcome)
        self.failures.forget(done)  # of a run that was killed between an answer and this
        return left

    def _check_api_server(self) -> None:
        """ApiError now rather than a failure of every query."""
        client = api_caller(self.args)
        if isinstance(client, ApiClient):
            client.check()

    def _tool_descriptions(self, query: Query) -> list[list[str]] | None:
        """None also where a tool is not known: the query's environment then says so, and that query fails."""
        try:
            return None if query.api_list is None else self.tool_files.descriptions(query.api_list)
        except DataError:
            return None

    def _tool_package(self) -> ToolPackage | None:
        """What all queries may call, for provider `all`."""
        if self.args.function_provider != "all":
            return None
        return ToolPackage.of_tools(read_tools_json(Path(self.args.data_dir) / "toolenv" / "tools" / "tools.json"))
