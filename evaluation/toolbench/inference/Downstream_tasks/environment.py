"""Gives one query its environment: the functions it may call, the observation and code that a call gives."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from evaluation.toolbench.inference.Downstream_tasks.api_caller import ApiCaller, api_caller, service_url
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig, ToolConfig
from evaluation.toolbench.inference.Downstream_tasks.functions import ApiJson, ToolPackage, api_json_to_openai_json
from evaluation.toolbench.inference.Downstream_tasks.task_texts import task_description
from evaluation.toolbench.inference.Downstream_tasks.tool_files import ToolFiles
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.records.finish import FINAL_ANSWER, FINISH_NAME, UNKNOWN_FUNCTION, parse_finish
from evaluation.toolbench.inference.records.queries import refuse_unusable
from evaluation.toolbench.inference.Tree.base_env import FunctionJson, base_env


class Retriever(Protocol):
    """Says what the provider `retriever` needs; the checkout's ToolRetriever has it."""

    def retrieving(self, query: str, top_k: int) -> list[dict[str, str]]:
        """Find the nearest APIs, best first: {"category", "tool_name", "api_name"}, all standardized."""


class rapidapi_wrapper(base_env):
    """Is the environment of `query_json`, whose functions come from `function_provider`:

    truth      the APIs of the query's own `api_list`
    retriever  the APIs that `retriever` finds for the query's text
    all        every API of `tool_package`, which all queries share: a ToolPackage, or a dictionary with its fields

    `truth_functions` are in each case those that were meant for this query (`ToolPackage.functions_by_api`).
    `args` is a ToolConfig, or the parsed command line. `client` makes the calls and `tool_files` reads the
    tools; a run hands the same ones to all its queries, and they are made from `args` where it does not.

    ConfigError for a provider that lacks its source, DataError for a query with a tool that does not exist.
    """

    CALL_MAX_TIME = 3  # ToolBench's; tries are counted by the client

    def __init__(
        self,
        query_json: Mapping[str, Any],
        tool_descriptions: Sequence[Sequence[str | None]] | None,
        function_provider: str,
        tool_package: ToolPackage | Mapping[str, Any] | None,
        retriever: Retriever | None,
        args: Any,
        process_id: int = 0,
        *,
        client: ApiCaller | None = None,
        tool_files: ToolFiles | None = None,
    ) -> None:
        refuse_unusable(query_json)
        tools = args if isinstance(args, ToolConfig) else RunConfig.of(args).tools
        self.tool_root_dir = tools.tool_root_dir
        self.toolbench_key = tools.toolbench_key
        self.rapidapi_key = tools.rapidapi_key
        self.use_rapidapi_key = tools.use_rapidapi_key
        self.api_customization = tools.api_customization
        self.max_observation_length = tools.max_observation_length
        self.observ_compress_method = tools.observ_compress_method
        self.retrieved_api_nums = tools.retrieved_api_nums
        self.service_url = service_url()
        self.process_id = process_id
        self.retriever = retriever
        self.client = api_caller(tools) if client is None else client
        self.tool_files = ToolFiles(tools.tool_root_dir) if tool_files is None else tool_files
        self.input_description: str = query_json["query"]
        self.success = 0

        if function_provider == "retriever":
            query_json = {**query_json, **self.retrieve_rapidapi_tools(self.input_description, self.retrieved_api_nums)}
            tool_descriptions = None
        own = ToolPackage()
        try:
            for api_json in self.fetch_api_json(query_json)["api_list"]:
                own.add(api_json)
            if tool_descriptions is None:
                tool_descriptions = self.build_tool_description(query_json)
        except DataError as error:
            query_id = query_json.get("query_id", query_json["query"])
            raise DataError(f"query {query_id}: {error}", query_id=query_id, **error.details) from error
        self.truth_functions = own.functions_by_api
        self.tool_package = _callable(function_provider, own, tool_package)
        self.functions = self.tool_package.functions_and_finish
        self.api_name_reflect = self.tool_package.api_name_reflect
        self.tool_names = self.tool_package.tool_names
        self.cate_names = self.tool_package.cate_names
        self.task_description = task_description(tool_descriptions)

    def step(self, *, action_name: str, action_input: str) -> tuple[str, int]:
        """Call `action_name`; return (observation of at most `max_observation_length` characters, status code).

        An `ActionName` calls the API it stands for, where several have this name.
        """
        observation, code = self._answer(action_name, action_input)
        if len(observation) > self.max_observation_length:
            observation = observation[: self.max_observation_length] + "..."
        return observation, code

    def copy(self) -> rapidapi_wrapper:
        """Return a copy with a success of its own; all else is shared."""
        return copy.copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> rapidapi_wrapper:
        return self.copy()

    def check_success(self) -> int:
        return self.success

    def restart(self) -> None:
        self.success = 0

    def build_tool_description(self, data_dict: Mapping[str, Any]) -> list[list[str]]:
        """Return [standardized tool name, description] per entry of the `api_list`."""
        return self.tool_files.descriptions(_entries(data_dict))

    def retrieve_rapidapi_tools(self, query: str, top_k: int) -> dict[str, list[dict[str, str]]]:
        """Return {"api_list"} of the retrieved APIs, at most `top_k`, of which there is a tool file."""
        if self.retriever is None:
            raise ConfigError(
                "--function_provider retriever needs a retriever: pass --retrieval_model_path and --corpus_tsv_path"
            )
        found = [
            {"category_name": api["category"], "tool_name": api["tool_name"], "api_name": api["api_name"]}
            for api in self.retriever.retrieving(query, top_k=top_k)
        ]
        return {"api_list": [entry for entry in found if self.tool_files.has(entry)][:top_k]}

    def fetch_api_json(self, query_json: Mapping[str, Any]) -> dict[str, list[ApiJson]]:
        """Return {"api_list"} with the documentation of the query's APIs, without those that their tools lack."""
        found = [self.tool_files.api_json(entry) for entry in _entries(query_json)]
        return {"api_list": [api_json for api_json in found if api_json is not None]}

    @staticmethod
    def api_json_to_openai_json(api_json: ApiJson, standard_tool_name: str) -> tuple[FunctionJson, str, str]:
        """Turn an API into the function of this name."""
        return api_json_to_openai_json(api_json, standard_tool_name)

    def _answer(self, action_name: str, action_input: str) -> tuple[str, int]:
        if action_name == FINISH_NAME:
            observation, code = parse_finish(action_input).outcome()
            if code == FINAL_ANSWER:
                self.success = 1
            return observation, code
        target = self.tool_package.find(action_name)
        if target is None:
            return json.dumps({"error": f"No such function name: {action_name}", "response": ""}), UNKNOWN_FUNCTION
        return self.client.call(
            category=target.category,
            tool_name=target.tool,
            api_name=target.api,
            tool_input=action_input,
            strip=self.observ_compress_method,
        )


def _entries(query_json: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return query_json.get("api_list") or ()


def _callable(
    function_provider: str, own: ToolPackage, everything: ToolPackage | Mapping[str, Any] | None
) -> ToolPackage:
    """Choose what may be called."""
    if function_provider in ("truth", "retriever"):
        return own
    if function_provider != "all":
        raise NotImplementedError(f"function provider {function_provider!r}: use truth, retriever or all")
    if everything is None:
        raise ConfigError("--function_provider all needs the tools of tools.json: pass --data_dir")
    return ToolPackage(**everything) if isinstance(everything, Mapping) else everything
