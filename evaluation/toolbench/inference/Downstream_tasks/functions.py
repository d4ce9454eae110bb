"""Makes the function JSON of APIs, and the table of what can be called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.task_texts import task_texts
from evaluation.toolbench.inference.records.finish import FINISH_NAME, GIVE_ANSWER, GIVE_UP
from evaluation.toolbench.inference.Tree.base_env import FunctionJson
from evaluation.toolbench.names import ActionName, change_name, standardize

ApiJson = dict[str, Any]  # one API as ToolBench hands it round: see `api_json_of`

_TYPES = {"NUMBER": "integer", "STRING": "string", "BOOLEAN": "boolean"}
_LONGEST_DESCRIPTION = 256  # characters
_LONGEST_NAME = 64  # characters, counted from the end


def api_json_of(tool: Mapping[str, Any], api: Mapping[str, Any], category_name: str) -> ApiJson:
    """Join one entry of a tool's `api_list` with what it inherits from the tool."""
    return {
        "category_name": category_name,
        "api_name": api["name"],
        "api_description": api.get("description"),
        "required_parameters": _named(api.get("required_parameters")),
        "optional_parameters": _named(api.get("optional_parameters")),
        "tool_name": tool["tool_name"],
    }


def fetch_api_json_from_tool(tool: Mapping[str, Any]) -> list[ApiJson]:
    """Return the APIs of one entry of `tools.json`."""
    return [api_json_of(tool, api, tool["category_name"]) for api in tool["api_list"]]


def api_json_to_openai_json(api_json: ApiJson, standard_tool_name: str) -> tuple[FunctionJson, str, str]:
    """Return (function JSON, category, standardized API name) of an API.

    Parameters are named, typed and described for the model; `default` values serve as examples. Texts that
    are missing or null count as empty.
    """
    pure_name = pure_api_name(api_json["api_name"])
    name = f"{pure_name}_for_{standard_tool_name}"[-_LONGEST_NAME:]
    required = api_json["required_parameters"]
    optional = api_json["optional_parameters"]
    function = {
        "name": name,
        "description": _function_description(api_json, name, standard_tool_name),
        "parameters": {
            "type": "object",
            "properties": {_key(parameter): _property(parameter) for parameter in [*required, *optional]},
            "required": _keys(required),
            "optional": _keys(optional),
        },
    }
    return {"type": "function", "function": function}, api_json["category_name"], pure_name


@dataclass(frozen=True)
class ApiTarget:
    """Says where a call goes, in the words of the API server."""

    category: str
    tool: str  # standardized
    api: str  # standardized, without the tool's name


@dataclass
class ToolPackage:
    """Knows what can be called: four dictionaries by function name, and the way from an API to its target.

    Function names are cut to 64 characters, so several APIs may share one. In the dictionaries the last one
    wins, in the place of the first; a call that knows which API it means (`ActionName`) is found by that. Built
    once, then shared by all environments and not changed.
    """

    functions: dict[str, FunctionJson] = field(default_factory=dict)
    api_name_reflect: dict[str, str] = field(default_factory=dict)
    tool_names: dict[str, str] = field(default_factory=dict)
    cate_names: dict[str, str] = field(default_factory=dict)
    data_dict: list[Mapping[str, Any]] = field(default_factory=list)  # the entries of tools.json, if it is from there
    _by_api: dict[tuple[str, str], ApiTarget] = field(default_factory=dict, repr=False)
    _names: dict[str, str] = field(default_factory=dict, repr=False)  # of functions: ActionNames where one API has it

    @classmethod
    def of_tools(cls, tools: Iterable[Mapping[str, Any]]) -> ToolPackage:
        """Collect all APIs of `tools.json`."""
        package = cls()
        for tool in tools:
            package.data_dict.append(tool)
            for api_json in fetch_api_json_from_tool(tool):
                package.add(api_json)
        return package

    @cached_property
    def functions_and_finish(self) -> dict[str, FunctionJson]:
        """Return `functions`, then `Finish`: made once, after the last `add`."""
        return {**self.functions, FINISH_NAME: finish_function()}

    @property
    def functions_by_api(self) -> dict[str, FunctionJson]:
        """Return `functions` under names that know their API; a name that several APIs share stands for all of them."""
        return {self._names[name]: function for name, function in self.functions.items()}

    def add(self, api_json: ApiJson) -> None:
        standard_tool = standardize(api_json["tool_name"])
        function, category, pure_name = api_json_to_openai_json(api_json, standard_tool)
        name: str = function["function"]["name"]
        api = api_json["tool_name"], api_json["api_name"]
        known = self._names.setdefault(name, ActionName(name, *api))
        if isinstance(known, ActionName) and (known.tool_name, known.api_name) != api:
            self._names[name] = name
        self.functions[name] = function
        self.api_name_reflect[name] = pure_name
        self.tool_names[name] = standard_tool
        self.cate_names[name] = category
        target = ApiTarget(category, standard_tool, pure_name)
        self._by_api[api] = target
        self._by_api.setdefault((standard_tool, pure_name), target)

    def find(self, action_name: str) -> ApiTarget | None:
        """Find where a call of this name goes; None for one that cannot be called."""
        if isinstance(action_name, ActionName) and self._by_api:  # one made of dictionaries alone knows names
            tool, api = action_name.tool_name, action_name.api_name
            return self._by_api.get((tool, api)) or self._by_api.get((standardize(tool), pure_api_name(api)))
        if action_name not in self.cate_names:
            return None
        return ApiTarget(self.cate_names[action_name], self.tool_names[action_name], self.api_name_reflect[action_name])


def pure_api_name(api_name: str) -> str:
    """Return the API's name as the API server and the tools' own code have it."""
    return change_name(standardize(api_name))


def _named(parameters: Any) -> list[dict[str, Any]]:
    """Pick the parameters that can be given at all: those with a name."""
    entries = parameters if isinstance(parameters, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)]


def _function_description(api_json: ApiJson, name: str, standard_tool_name: str) -> str:
    description = f'This is the subfunction for tool "{standard_tool_name}", you can use this tool.'
    text = _text(api_json.get("api_description")).strip()
    if not text:
        return description
    if api_json["api_name"]:
        text = text.replace(api_json["api_name"], name)
    return f'{description}The description of this function is: "{text[:_LONGEST_DESCRIPTION]}"'


def _property(parameter: Mapping[str, Any]) -> dict[str, Any]:
    described = {
        "type": _TYPES.get(_text(parameter.get("type")), "string"),
        "description": _text(parameter.get("description"))[:_LONGEST_DESCRIPTION],
    }
    if str(parameter.get("default", "")) != "":
        described["example_value"] = parameter["default"]
    return described


def _key(parameter: Mapping[str, Any]) -> str:
    return change_name(standardize(parameter["name"]))


def _keys(parameters: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(_key(parameter) for parameter in parameters))  # some APIs name a parameter twice


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def finish_function() -> FunctionJson:
    """Return the function JSON of Finish, with the checkout's descriptions where there is one."""
    texts = task_texts()
    return {
        "type": "function",
        "function": {
            "name": FINISH_NAME,
            "description": texts.finish_description,
            "parameters": {
                "type": "object",
                "properties": {
                    "return_type": {"type": "string", "enum": [GIVE_ANSWER, GIVE_UP]},
                    "final_answer": {"type": "string", "description": texts.answer_description},
                },
                "required": ["return_type"],
            },
        },
    }
