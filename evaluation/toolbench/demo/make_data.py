"""Writes the demo's data folder: tool tokens, tools, queries, what they must lead to, and the APIs' responses.

    python -m evaluation.toolbench.demo.make_data [--out FOLDER]

The same bytes every time. `expected.json` is the demo's own, the rest has the layout of ToolGen's data.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.demo.retrieval_files import retrieval_files
from evaluation.toolbench.demo.samples import FINISH_TOKEN, DemoQuery, demo_queries
from evaluation.toolbench.demo.world import TOOLS
from evaluation.toolbench.demo.world.schema import Tool
from evaluation.toolbench.names import (
    change_name,
    get_toolbench_name,
    standardize,
    standardize_category,
)

QUERY_FILE = "solvable_queries/test_instruction/demo_queries.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demo's data folder.")
    parser.add_argument(
        "--out", type=Path, default=DATA_DIR, help="the folder, replaced if it is there (default: the bundled one)"
    )
    out: Path = parser.parse_args().out
    if (out / "expected.json").is_file():  # only ever a folder that this program wrote
        shutil.rmtree(out)
    queries = demo_queries()
    write_data(out, queries)
    print(f"{len(TOOLS)} tools, {len(_tokens()) - 1} APIs, {len(queries)} queries in {out}")


def write_data(out: Path, queries: list[DemoQuery]) -> None:
    """Write all files of the data folder, as UTF-8 with a newline at the end."""
    _write(out / "virtual_tokens.txt", "\n".join(_tokens()))
    _write_json(out / "toolenv/tools/tools.json", [_tool_json(tool) for tool in TOOLS.values()])
    for tool in TOOLS.values():
        folder = out / "toolenv/tools" / standardize_category(tool.category)
        _write_json(folder / f"{standardize(tool.name)}.json", _tool_json(tool))
    _write_json(out / QUERY_FILE, [_query_json(query) for query in queries])
    _write_json(out / "expected.json", {str(query.query_id): _expectation(query) for query in queries})
    for path, text in retrieval_files(queries).items():
        _write(out / path, text)
    for path, responses in _responses(queries).items():
        _write_json(out / "tool_response_cache" / path, responses)


def _tokens() -> list[str]:
    """Return the lines of `virtual_tokens.txt`; names stay as they are, folding them to ASCII is the reader's."""
    return [FINISH_TOKEN, *(f"<<{tool.name}&&{api.name}>>" for tool in TOOLS.values() for api in tool.apis)]


def _tool_json(tool: Tool) -> dict[str, Any]:
    return {
        "category_name": tool.category,
        "tool_name": tool.name,
        "tool_description": tool.description,
        "api_list": [api.as_json() for api in tool.apis],
    }


def _query_json(query: DemoQuery) -> dict[str, Any]:
    """Return a query whose candidates are all APIs of the tools that the right trajectory needs."""
    calls = [step.call for step in query.trajectory.steps]
    tools = [TOOLS[name] for name in dict.fromkeys(call.tool for call in calls)]
    return {
        "query_id": query.query_id,
        "query": query.trajectory.question,
        "split": query.split,
        "api_list": [tool.document(api) for tool in tools for api in tool.apis],
        "relevant APIs": [[call.tool, call.api] for call in calls],
    }


def _expectation(query: DemoQuery) -> dict[str, Any]:
    """Return what `score.py` compares an answer with."""
    return {
        "split": query.split,
        "calls": [
            {"name": get_toolbench_name(step.call.tool, step.call.api), "arguments": step.arguments}
            for step in query.trajectory.steps
        ],
        "answer_contains": list(query.trajectory.facts),
    }


def _responses(queries: list[DemoQuery]) -> dict[str, dict[str, Any]]:
    """Return cache file -> key -> response; the key is Python's `str` of the parsed arguments."""
    files: dict[str, dict[str, Any]] = {}
    for query in queries:
        for step in query.trajectory.steps:
            category = standardize_category(TOOLS[step.call.tool].category)
            folder = f"{category}/{standardize(step.call.tool)}_for_{category}"
            path = f"{folder}/{change_name(standardize(step.call.api))}.json"
            files.setdefault(path, {})[str(step.arguments)] = {"error": "", "response": step.answer}
    return files


def _write_json(path: Path, content: Any) -> None:
    _write(path, json.dumps(content, indent=2, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
