"""Calls a tool's own code on this machine, in the words of ToolBench's API server (`--use_rapidapi_key`,
`--api_customization`)."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.api_files import ApiFiles
from evaluation.toolbench.inference.Downstream_tasks.functions import pure_api_name
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.json_input import read_json
from evaluation.toolbench.time_limit import within
from evaluation.toolbench.virtual_api.cache_names import RecordName, bare_tool_name
from evaluation.toolbench.virtual_api.keys import parse_tool_input
from evaluation.toolbench.virtual_api.replies import CODE_OF_ERROR, SUCCESS, TIMEOUT

logger = logging.getLogger(__name__)

CALL_TIMEOUT_S = 60.0  # RapidAPI's own gateway gives up earlier
_LONGEST_RESPONSE = 2048  # characters
_TIMEOUT_ERROR = "Timeout error..."

# What RapidAPI and its APIs say when something is wrong, most specific first.
_ERROR_OF_PHRASE = {
    "The request to the API has timed out. Please try again later, or if the issue persists": (
        "API temporarily not working error..."
    ),
    "Your Client (working) ---> Gateway (working) ---> API (not working)": "API not working error...",
    "Unauthorized": "Unauthorized error...",
    "unauthorized": "Unauthorized error...",
    "You are not subscribed to this API.": "Unsubscribed error...",
    "Too many requests": "Too many requests error...",
    "You have exceeded": "Rate limit error...",
    "you are being rate limited": "Rate limit error...",
    "Access restricted. Check credits balance or enter the correct API key.": "Rate limit error...",
    "Oops, an error in the gateway has occurred.": "Gateway error...",
    "Blocked User. Please contact your API provider.": "Blocked error...",
    "error": "Message error...",
}


class LocalApis:
    """Calls the APIs in the `api.py` files below `tools_root` as those of an API server are called."""

    def __init__(self, tools_root: str, *, rapidapi_key: str = "", api_customization: bool = False) -> None:
        self._tools_root = tools_root
        self._rapidapi_key = rapidapi_key
        self._api_customization = api_customization
        # Beside the tools in ToolBench's data folder: toolenv/tools and toolenv/response_examples.
        self._schema_root = str(Path(tools_root).parent / "response_examples")

    def call(
        self,
        *,
        category: str,
        tool_name: str,
        api_name: str,
        tool_input: str,
        strip: str,
        timeout_s: float | None = None,
    ) -> tuple[str, int]:
        """Return (observation, status code) of one call, whatever the tool's code does."""
        answer = get_rapidapi_response(
            {
                "category": category,
                "tool_name": tool_name,
                "api_name": api_name,
                "tool_input": tool_input,
                "strip": strip,
                "rapidapi_key": self._rapidapi_key,
            },
            api_customization=self._api_customization,
            tools_root=self._tools_root,
            schema_root=self._schema_root,
            timeout_s=CALL_TIMEOUT_S if timeout_s is None else min(timeout_s, CALL_TIMEOUT_S),
        )
        error = answer["error"]
        return json.dumps(answer), TIMEOUT if error == _TIMEOUT_ERROR else CODE_OF_ERROR.get(error, SUCCESS)


def get_rapidapi_response(
    input_dict: Mapping[str, Any],
    api_customization: bool = False,
    tools_root: str = "data.toolenv.tools",
    schema_root: str = "data/toolenv/response_examples",
    timeout_s: float = CALL_TIMEOUT_S,
) -> dict[str, str]:
    """Return {"error", "response"} of the API that `input_dict` names; "error" is empty after a good call.

    `input_dict` has category, tool_name, api_name, tool_input (JSON text or an object), strip and
    rapidapi_key, which the API is given as `toolbench_rapidapi_key` unless it is `api_customization`'s own.
    `tools_root` is a folder, or one written with dots. Nothing is raised for what tools or models do wrong.
    """
    try:
        arguments = parse_tool_input(input_dict["tool_input"])
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        return {"error": "Tool input parse error...\n", "response": ""}
    if not api_customization:
        arguments = {**arguments, "toolbench_rapidapi_key": input_dict["rapidapi_key"]}

    record = RecordName.of_request(input_dict["category"], input_dict["tool_name"], input_dict["api_name"])
    tool_name = bare_tool_name(record.tool, record.category)
    files = _api_files(_folder(tools_root))
    try:
        if record.relative_path() is None:
            raise DataError("no API can have such names")
        response = within(timeout_s, lambda: files.function(record.category, tool_name, record.api)(**arguments))
    except TimeoutError:
        return {"error": _TIMEOUT_ERROR, "response": ""}
    except Exception as error:  # the model is told, and may try something else
        logger.info("%s of %s failed", record.api, tool_name, exc_info=True)
        import_line = f"from data.toolenv.tools.{record.category}.{tool_name}.api import {record.api}"
        return {"error": f"Function executing {import_line} error...\n{error}", "response": ""}
    kept = response
    if isinstance(response, dict) and _is_filtered(input_dict["strip"]):
        schema = _schema(Path(schema_root), record.category, tool_name, record.api)
        kept = prune(response, schema) if schema else response
    return {"error": error_in(str(response)), "response": str(kept)[:_LONGEST_RESPONSE]}


def error_in(response: str) -> str:
    """Find the error that a response tells of, in ToolBench's words; "" without one."""
    return next((error for phrase, error in _ERROR_OF_PHRASE.items() if phrase in response), "")


def prune(value: Any, schema: Any) -> Any:
    """Keep only those keys of `value` that `schema` has, at every level; a list follows its schema's first element.

    >>> prune({"sky": "grey", "debug": 1, "days": [{"t": 3, "id": 9}]}, {"sky": "str", "days": [{"t": "int"}]})
    {'sky': 'grey', 'days': [{'t': 3}]}
    """
    if isinstance(value, dict) and isinstance(schema, dict):
        return {key: prune(item, schema[key]) for key, item in value.items() if key in schema}
    if isinstance(value, list) and isinstance(schema, list) and schema:
        return [prune(item, schema[0]) for item in value]
    return value


def _is_filtered(strip: str) -> bool:
    return strip == "filter" or (strip == "random" and random.random() < 0.5)


def _folder(tools_root: str) -> Path:
    folder = Path(tools_root) if Path(tools_root).is_dir() else Path(*tools_root.split("."))
    return folder.resolve()


@lru_cache(maxsize=8)
def _api_files(root: Path) -> ApiFiles:
    """Return the same one to all threads, so that a tool's file is executed once."""
    return ApiFiles(root)


@lru_cache(maxsize=1024)
def _schema(schema_root: Path, category: str, tool_name: str, api_name: str) -> dict[str, Any] | None:
    """Read the keys of an API's responses; None where no example was recorded."""
    try:
        examples = read_json(schema_root / category / f"{tool_name}.json")
        schemas = {pure_api_name(api["name"]): api["schema"] for api in examples["api_list"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    schema = schemas.get(api_name)
    return schema if isinstance(schema, dict) else None
