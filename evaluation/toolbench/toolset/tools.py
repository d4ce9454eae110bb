"""Reads tools as files, and makes the tokens that stand for their APIs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.tool_files import is_tool
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.answers import output_errors
from evaluation.toolbench.inference.records.whole_files import write_whole
from evaluation.toolbench.inference.toolgen.catalog import FINISH_ACTIONS
from evaluation.toolbench.json_input import JsonError, read_json
from evaluation.toolbench.names import ascii_folded, standardize, standardize_category

FINISH_TOKEN = FINISH_ACTIONS["Atomic"]
_FLAG = "--out"


@dataclass(frozen=True)
class ToolToken:
    """Holds a token as the catalog has it, and in ASCII, as the vocabulary has it."""

    line: str
    text: str
    name: str  # what it says in words, for a model that has not seen it yet


@dataclass(frozen=True)
class ToolSet:
    """Holds tools as `tools.json` has them, in the order of their files."""

    tools: Sequence[Mapping[str, Any]]

    @property
    def num_apis(self) -> int:
        return sum(len(tool["api_list"]) for tool in self.tools)

    def tokens(self) -> list[ToolToken]:
        """Return Finish's token and one for each API. DataError for names that two APIs share, or no token can have."""
        tokens = {FINISH_TOKEN: ToolToken(FINISH_TOKEN, FINISH_TOKEN, "Finish")}
        for tool in self.tools:
            for api in tool["api_list"]:
                token = _token(tool["tool_name"], api["name"])
                if token.text in tokens:
                    raise DataError(
                        f"the tool {tool['tool_name']!r} has an API {api['name']!r} whose token {token.text} is taken: "
                        "give the API, or its tool, another name"
                    )
                tokens[token.text] = token
        return list(tokens.values())


def read_tool_set(folder: Path) -> ToolSet:
    """Read the tools in `<category>/<tool>.json` below `folder`; their categories are those in the files, else the
    folders' names. DataError for a file that is not a tool, or when there are no tools.
    """
    paths = sorted(folder.glob("*/*.json"))
    tools = [_read_tool(path) for path in paths]
    if not tools:
        raise DataError(f"no tool in {folder}: it holds <category>/<tool>.json, each with tool_name and an api_list")
    return ToolSet(tools)


def write_data(folder: Path, tool_set: ToolSet) -> None:
    """Write a data folder as the pipeline reads it: tokens, tools.json and the tools' own files. OutputError."""
    tokens = tool_set.tokens()
    _write(folder / "virtual_tokens.txt", "\n".join(token.line for token in tokens))
    tools = folder / "toolenv" / "tools"
    _write(tools / "tools.json", _json(tool_set.tools))
    for tool in tool_set.tools:
        category = standardize_category(tool["category_name"])
        _write(tools / category / f"{standardize(tool['tool_name'])}.json", _json(tool))


def _read_tool(path: Path) -> dict[str, Any]:
    try:
        tool = read_json(path)
    except (OSError, JsonError) as error:
        raise DataError(f"the tool file {path} cannot be read: {error}") from error
    if not is_tool(tool):
        raise DataError(f"{path} is not a tool: a JSON object with tool_name and an api_list of APIs with a name")
    category = tool.get("category_name")
    return {**tool, "category_name": category if isinstance(category, str) and category else path.parent.name}


def _token(tool_name: str, api_name: str) -> ToolToken:
    line = f"<<{tool_name}&&{api_name}>>"
    if "&&" in tool_name or not standardize(tool_name) or len(line.splitlines()) != 1 or line.split() == ["<<&&>>"]:
        raise DataError(
            f"the tool {tool_name!r} with its API {api_name!r} cannot have a token: names are one line, a tool's has "
            "letters or digits and no &&"
        )
    return ToolToken(line, ascii_folded(line), f"{tool_name} {api_name}")


def _json(content: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    with output_errors(path, _FLAG):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n")
