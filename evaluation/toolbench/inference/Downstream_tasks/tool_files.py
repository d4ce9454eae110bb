"""Reads the folder of tools, `<category>/<tool>.json`, each file once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.functions import ApiJson, api_json_of, pure_api_name
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.json_input import JsonError, read_json
from evaluation.toolbench.names import is_plain_file_name, standardize, standardize_category

logger = logging.getLogger(__name__)

WhiteList = dict[str, dict[str, str]]


class ToolFiles:
    """Reads the tools below `root`, for all queries and threads of a run."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._tools: dict[Path, dict[str, Any] | None] = {}

    def descriptions(self, entries: Iterable[Mapping[str, Any]]) -> list[list[str]]:
        """Return [standardized tool name, description] per entry of an `api_list`; DataError for an unknown tool."""
        return [[self.path_of(entry).stem, self._tool(entry).get("tool_description") or ""] for entry in entries]

    def api_json(self, entry: Mapping[str, Any]) -> ApiJson | None:
        """Read the API that an entry of an `api_list` names, from its tool's file.

        None, with a warning, for an API that the tool does not have; DataError for an unknown tool.
        """
        for api in self._tool(entry)["api_list"]:
            if pure_api_name(api["name"]) == pure_api_name(entry["api_name"]):
                return api_json_of(self._tool(entry), api, entry["category_name"])
        logger.warning("API %r left out: %s has none of that name", entry["api_name"], self.path_of(entry))
        return None

    def has(self, entry: Mapping[str, Any]) -> bool:
        return os.path.isfile(self.path_of(entry))  # unlike Path.is_file, it takes any name

    def path_of(self, entry: Mapping[str, Any]) -> Path:
        """Return the file of a tool. Names from outside are folded into plain file names, so it is below `root`."""
        category = entry["category_name"]
        if not is_plain_file_name(category) or not (self.root / category).is_dir():
            category = standardize_category(category).lstrip(".")
        return self.root / category / f"{standardize(entry['tool_name'])}.json"

    def _tool(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        path = self.path_of(entry)
        if path not in self._tools:
            self._tools[path] = _read_tool(path)
        tool = self._tools[path]
        if tool is None:
            raise DataError(
                f"the tool {entry['tool_name']!r} of category {entry['category_name']!r} is not known: {path} is not "
                "there or is not a valid tool file. Add it, or remove the queries that name it",
                tool_name=entry["tool_name"],
            )
        return tool


def get_white_list(tool_root_dir: str | Path) -> WhiteList:
    """Return {standardized tool name: {"description", "standard_tool_name"}} of all tool files; later files win.

    A file that is not a tool is left out with a warning. DataError when there is no such folder.
    """
    root = Path(tool_root_dir)
    if not root.is_dir():
        raise DataError(f"no tool folder {root}: pass --tool_root_dir, or --data_dir with toolenv/tools in it")
    white_list: WhiteList = {}
    for path in sorted(root.glob("*/*.json")):
        tool = _read_tool(path)
        if tool is None:
            logger.warning("%s left out: not a JSON object with tool_name and api_list", path)
            continue
        white_list[standardize(tool["tool_name"])] = {
            "description": tool.get("tool_description") or "",
            "standard_tool_name": path.name.split(".")[0],
        }
    return white_list


def contain(candidate_list: Iterable[str], white_list: Mapping[str, Any]) -> list[Any] | bool:
    """Return the white list's entry of each name, or False if one has none."""
    names = list(candidate_list)
    return [white_list[name] for name in names] if all(name in white_list for name in names) else False


def read_tools_json(path: Path) -> list[dict[str, Any]]:
    """Read the entries of `tools.json`; a DataError names what is missing where."""
    try:
        tools = read_json(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Provider all needs it; pass --data_dir") from error
    except JsonError as error:
        raise DataError(f"{path} is {error}") from error
    if not isinstance(tools, list):
        raise DataError(f"{path} holds a {type(tools).__name__}, not a list of tools")
    for position, tool in enumerate(tools):
        if not is_tool(tool) or not isinstance(tool.get("category_name"), str):
            raise DataError(
                f"{path}: entry {position} is not a tool with tool_name, category_name and an api_list of named APIs. "
                "Restore the file from ToolGen's data",
                position=position,
            )
    return tools


def _read_tool(path: Path) -> dict[str, Any] | None:
    try:
        tool = read_json(path)
    except (OSError, JsonError):
        return None
    return tool if is_tool(tool) else None


def is_tool(tool: Any) -> bool:
    """Say whether this is a tool: an object with a name and a list of APIs with names."""
    return (
        isinstance(tool, dict)
        and isinstance(tool.get("tool_name"), str)
        and isinstance(tool.get("api_list"), list)
        and all(isinstance(api, dict) and isinstance(api.get("name"), str) for api in tool["api_list"])
    )
