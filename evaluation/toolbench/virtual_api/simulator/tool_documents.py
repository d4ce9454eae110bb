"""Finds an API's documentation in the folder of tools: `<category>/<tool>.json`, as ToolBench lays it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation.toolbench.json_input import JsonError, read_json
from evaluation.toolbench.names import change_name, standardize
from evaluation.toolbench.virtual_api.cache_names import RecordName, bare_tool_name


class ToolDocuments:
    """Reads the tools below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, name: RecordName) -> dict[str, Any] | None:
        """Return what MirrorAPI is told of an API, in its order; None for an API that is not documented here."""
        if name.relative_path() is None:
            return None
        tool_name = bare_tool_name(name.tool, name.category)
        try:
            tool = read_json(self.root / name.category / f"{standardize(tool_name)}.json")
            apis = [api for api in tool["api_list"] if change_name(standardize(api["name"])) == name.api]
        except (OSError, JsonError, LookupError, TypeError):
            return None
        if not apis:
            return None
        return {
            "api_name": apis[0]["name"],
            "api_description": apis[0].get("description") or "",
            "required_parameters": apis[0].get("required_parameters") or [],
            "optional_parameters": apis[0].get("optional_parameters") or [],
            "tool_description": tool.get("tool_description") or "",
            "tool_name": tool_name,
            "tool_category": name.category,
        }
