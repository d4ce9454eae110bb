"""Runs one query, from its text to its answer file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.Algorithms.base_search import base_search_method
from evaluation.toolbench.inference.Algorithms.DFS import DFS_tree_search
from evaluation.toolbench.inference.Algorithms.events import Events
from evaluation.toolbench.inference.Algorithms.single_chain import single_chain
from evaluation.toolbench.inference.Downstream_tasks.api_caller import ApiCaller, api_caller
from evaluation.toolbench.inference.Downstream_tasks.backbones import end_conversation, model_for_query
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.Downstream_tasks.environment import Retriever, rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.functions import ToolPackage
from evaluation.toolbench.inference.Downstream_tasks.methods import CotMethod, DfsMethod, parse_method
from evaluation.toolbench.inference.Downstream_tasks.tool_files import ToolFiles
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.records.queries import Task
from evaluation.toolbench.inference.Tree.base_env import base_env


@dataclass(frozen=True)
class Tools:
    """Holds what all queries of a process share: the tool files, and what some providers draw on."""

    files: ToolFiles
    package: ToolPackage | Mapping[str, Any] | None = None  # what provider `all` may call
    retriever: Retriever | None = None


def run_query(
    task: Task,
    config: RunConfig,
    tools: Tools,
    *,
    process_id: int = 0,
    callbacks: Sequence[Any] | None = None,
    client: ApiCaller | None = None,
) -> int | None:
    """Run one query and write its answer; return the search's result, None where there is an answer already.

    `config` is what `task.args` says. `callbacks` are told of what happens (`events.py`); `client` makes the calls,
    by default the one that `config` asks for. Whatever goes wrong is raised and nothing is written.
    """
    text = task.data_dict["query"]
    answers = AnswerFolder(task.output_dir_path, task.method)
    if answers.outcome(task.query_id) is not None:
        return None
    events = Events(callbacks)
    events.send("on_tool_retrieval_start")
    env = rapidapi_wrapper(
        task.data_dict,
        task.tool_des,
        config.tools.function_provider,
        tools.package,
        tools.retriever,
        config.tools,
        process_id=process_id,
        client=api_caller(config.tools) if client is None else client,
        tool_files=tools.files,
    )
    events.send("on_tool_retrieval_end", tools=[function["function"] for function in env.truth_functions.values()])
    events.send("on_request_start", user_input=text, method=task.method)
    chain, result = search(
        parse_method(task.method),
        model_for_query(task.backbone_model, task.query_id, config.checkout),
        env,
        process_id=process_id,
        single_chain_max_step=config.search.single_chain_max_step,
        max_query_count=config.search.max_query_count,
        callbacks=callbacks,
    )
    record = chain.to_json(answer=True, process=True)
    if tools.package is not None:
        del record["answer_generation"]["function"]  # 47,000 of them, the same in every file
    record["answer_generation"]["query"] = text
    answers.write(task.query_id, record)
    outputs = record["answer_generation"]["final_answer"]
    events.send("on_request_end", chain=chain.final_messages(), outputs=outputs)
    return result


def search(
    method: CotMethod | DfsMethod,
    llm: Any,
    env: base_env,
    *,
    process_id: int,
    single_chain_max_step: int,
    max_query_count: int,
    callbacks: Sequence[Any] | None = None,
) -> tuple[base_search_method, int]:
    """Run `method` with a model that is this query's own; return (the search, its result)."""
    try:
        if isinstance(method, CotMethod):
            chain = single_chain(llm, env, process_id=process_id, callbacks=callbacks)
            return chain, chain.start(single_chain_max_step, pass_at=method.num_tries, answer=1)
        tree = DFS_tree_search(llm, env, process_id=process_id, callbacks=callbacks)
        return tree, tree.start(
            single_chain_max_step, method.width, max_query_count, answer=1, with_filter=method.with_filter
        )
    finally:
        end_conversation(llm)
