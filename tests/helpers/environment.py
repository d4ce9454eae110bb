"""A small tool folder, an API that answers as told, and models that follow a script."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.functions import ToolPackage

FORECAST = "daily_forecast_for_sky_watch"
AIR = "air_quality_for_sky_watch"
# Two APIs whose names are equal once cut to 64 characters.
RENTALS = "Airbnb listings"
PRICES = "Prices and Availability by administrative divisions"
ROOM_PRICES = f"Rooms {PRICES}"
SHARED_NAME = "and_availability_by_administrative_divisions_for_airbnb_listings"

ANSWER = '{"return_type": "give_answer", "final_answer": "Sunny."}'
GIVE_UP = '{"return_type": "give_up_and_restart"}'


def _api(name: str, description: str | None = "", required: Iterable[Any] = (), optional: Iterable[Any] = ()) -> dict:
    return {
        "name": name,
        "description": description,
        "required_parameters": list(required),
        "optional_parameters": list(optional),
    }


CITY = {"name": "city", "type": "STRING", "description": "City name", "default": "Paris"}
DAYS = {"name": "days", "type": "NUMBER", "description": "How many days", "default": 3}
TOOLS = [
    {
        "category_name": "Weather",
        "tool_name": "Sky Watch",
        "tool_description": "The sky,\nday by day",
        "api_list": [_api("Daily Forecast", "Daily Forecast for a city", [CITY], [DAYS]), _api("Air Quality", " ")],
    },
    {
        "category_name": "Travel",
        "tool_name": RENTALS,
        "tool_description": None,
        "api_list": [_api(PRICES), _api(ROOM_PRICES, None)],
    },
]


def write_tools(root: Path) -> Path:
    """The tools as `<category>/<tool>.json` and `tools.json` below `root`."""
    for tool, file_name in zip(TOOLS, ("sky_watch", "airbnb_listings"), strict=True):
        folder = root / tool["category_name"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{file_name}.json").write_text(json.dumps(tool), encoding="utf-8")
    (root / "tools.json").write_text(json.dumps(TOOLS), encoding="utf-8")
    return root


def entry(tool: str = "Sky Watch", api: str = "Daily Forecast", category: str = "Weather") -> dict[str, str]:
    return {"category_name": category, "tool_name": tool, "api_name": api}


def query(*entries: dict[str, str]) -> dict[str, Any]:
    return {"query_id": 7, "query": "How is the weather in Paris?", "api_list": list(entries or [entry()])}


def command_line(tool_root_dir: Path, **changes: Any) -> SimpleNamespace:
    """The arguments that an environment reads, with the command line's defaults."""
    defaults = {
        "tool_root_dir": str(tool_root_dir),
        "toolbench_key": "",
        "rapidapi_key": "",
        "use_rapidapi_key": False,
        "api_customization": False,
        "max_observation_length": 1024,
        "observ_compress_method": "truncate",
        "retrieved_api_nums": 5,
    }
    return SimpleNamespace(**{**defaults, **changes})


class FakeApi:
    """Answers every call with `reply` and remembers what it was asked."""

    def __init__(self, reply: tuple[str, int] = ('{"error": "", "response": "sunny"}', 0)) -> None:
        self.reply = reply
        self.calls: list[dict[str, str]] = []

    def call(self, **request: str) -> tuple[str, int]:
        self.calls.append(request)
        return self.reply


def make_env(root: Path, *, query_json: dict | None = None, provider: str = "truth", api: Any = None, **options: Any):
    """An environment over the tools below `root`, which are written there."""
    write_tools(root)
    return rapidapi_wrapper(
        query_json if query_json is not None else query(),
        options.pop("tool_descriptions", None),
        provider,
        ToolPackage.of_tools(TOOLS),
        options.pop("retriever", None),
        command_line(root, **options),
        client=api or FakeApi(),
    )


def says(thought: str) -> dict[str, Any]:
    return {"role": "assistant", "content": thought, "function_call": None}


def calls(name: str, arguments: str = "{}", thought: str | None = None) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    tool_calls = [{"id": None, "type": "function", "function": function}]
    return {"role": "assistant", "content": thought, "function_call": None, "tool_calls": tool_calls}


class ScriptedModel:
    """Gives `replies` one after the other, each for 5 tokens, and the last one for ever."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        self.replies = replies
        self.asked: list[list[dict[str, Any]]] = []  # the messages before each reply, as they were then
        self.shown: list[dict[str, Any]] = []  # the functions with each
        self.messages: list[dict[str, Any]] = []

    def change_messages(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages

    def parse(self, tools: dict[str, Any], process_id: int) -> tuple[dict[str, Any], int, int]:
        reply = self.replies[min(len(self.asked), len(self.replies) - 1)]
        self.asked.append(copy.deepcopy(self.messages))
        self.shown.append(tools)
        return copy.deepcopy(reply), 0, 5


class ScriptedToolGen(ScriptedModel):
    """As the ToolGen agents: documents its tools itself, is told of a query, and takes `process_id` first."""

    tool_documentation: dict[str, Any] = {}
    num_queries = 0

    def initialize(self) -> None:
        self.num_queries += 1

    def parse(self, process_id, tools=None, *, functions=None, function_call=None):  # type: ignore[override]
        if function_call == "none":
            self.asked.append(copy.deepcopy(self.messages))
            self.shown.append(functions)
            return says("A"), 0, 1
        return super().parse(tools, process_id)


class FewSteps(ScriptedToolGen):
    """Calls the forecast, then answers with the city of its own query; can be told to fail on a city."""

    def __init__(self, failing: str = "nowhere") -> None:
        super().__init__()
        self.failing = failing
        self.finished = 0

    def change_messages(self, messages):
        time.sleep(0.001)  # lets another thread in between the two calls of a step
        super().change_messages(messages)

    def parse(self, process_id, tools=None, *, functions=None, function_call=None):
        text = self.messages[1]["content"]
        if self.failing in text:
            raise KeyError("a token without documentation")
        if any(message["role"] == "tool" for message in self.messages):
            final = json.dumps({"return_type": "give_answer", "final_answer": text})
            return calls("Finish", final, "Done."), 0, 5
        return calls(FORECAST, json.dumps({"city": text}), "Look."), 0, 5
