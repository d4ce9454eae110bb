"""Calling a tool's own api.py: what is called with what, and that no model text is ever executed."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from evaluation.toolbench.inference.Downstream_tasks import local_apis
from evaluation.toolbench.inference.Downstream_tasks.api_files import ApiFiles
from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.local_apis import error_in, get_rapidapi_response
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.time_limit import within
from tests.helpers.environment import FORECAST, command_line, entry, query, write_tools

SOURCE = """
import threading
from json import dumps as air_quality

def daily_forecast(city="nowhere", days=1, toolbench_rapidapi_key=None):
    if city == "storm":
        raise RuntimeError("no forecast")
    if city == "hang":
        threading.Event().wait(3600)
    if city == "exit":
        raise SystemExit(3)
    if city == "long":
        return "x" * 5000
    return {"city": city, "days": days, "key": toolbench_rapidapi_key, "inner": [{"t": 1, "id": 2}]}

def secret():
    return "not an API"
"""


@pytest.fixture
def tools(tmp_path):
    root = write_tools(tmp_path / "toolenv" / "tools")
    folder = root / "Weather" / "sky_watch"
    folder.mkdir()
    (folder / "api.py").write_text(SOURCE, encoding="utf-8")
    return root


def ask(tools, tool_input, *, customization=True, strip="truncate", timeout_s=local_apis.CALL_TIMEOUT_S, **names):
    request = {"category": "Weather", "tool_name": "sky_watch", "api_name": "daily_forecast", **names}
    request |= {"tool_input": tool_input, "strip": strip, "rapidapi_key": "k3y"}
    schema_root = tools.parent / "response_examples"
    roots = {"tools_root": str(tools), "schema_root": str(schema_root)}
    return get_rapidapi_response(request, customization, **roots, timeout_s=timeout_s)


def test_the_function_is_called_with_the_models_arguments(tools):
    assert ask(tools, '{"city": "Paris", "days": 2}') == {
        "error": "",
        "response": "{'city': 'Paris', 'days': 2, 'key': None, 'inner': [{'t': 1, 'id': 2}]}",
    }
    assert "'city': 'nowhere'" in ask(tools, "")["response"]


def test_the_key_goes_along_unless_the_api_is_customized(tools):
    assert "'key': 'k3y'" in ask(tools, '{"toolbench_rapidapi_key": "forged"}', customization=False)["response"]
    assert "'key': None" in ask(tools, "{}")["response"]


def test_raw_names_and_a_dotted_root_lead_to_the_same_function(tools, monkeypatch):
    monkeypatch.chdir(tools.parents[1])
    request = {"category": "Weather", "tool_name": "Sky Watch", "api_name": "Daily Forecast"}
    request |= {"tool_input": {"city": "Oslo"}, "strip": "truncate", "rapidapi_key": ""}
    assert "'city': 'Oslo'" in get_rapidapi_response(request, True, tools_root="toolenv.tools")["response"]


@pytest.mark.parametrize("tool_input", ["{not json", "[1]", "5", "null", "[" * 100_000])
def test_arguments_that_are_no_object_are_a_parse_error(tools, tool_input):
    assert ask(tools, tool_input) == {"error": "Tool input parse error...\n", "response": ""}


@pytest.mark.parametrize(
    ("tool_input", "reason"),
    [('{"city": "storm"}', "no forecast"), ('{"colour": 1}', "unexpected keyword"), ('{"city": "exit"}', "exit(3)")],
)
def test_what_a_tools_code_raises_is_told_to_the_model(tools, tool_input, reason):
    answer = ask(tools, tool_input)
    import_line = "from data.toolenv.tools.Weather.sky_watch.api import daily_forecast"
    assert answer["error"].startswith(f"Function executing {import_line} error...\n")
    assert reason in answer["error"]
    assert answer["response"] == ""


@pytest.mark.parametrize(
    "names",
    [
        {"api_name": "secret"},  # in the file, but no API of the tool
        {"api_name": "air_quality"},  # an API, but its name in the file is another module's function
        {"api_name": "__import__"},
        {"tool_name": "no_such_tool"},
        {"tool_name": "../Weather/sky_watch"},
        {"category": "../tools/Weather"},
        {"category": ".."},
        {"category": "/etc"},
    ],
)
def test_only_apis_of_the_catalog_can_be_called(tools, names):
    answer = ask(tools, "{}", **names)
    assert answer["error"].startswith("Function executing")
    assert answer["response"] == ""


def test_a_file_is_executed_once_whoever_asks(tools):
    count = tools / "count"
    source = f"open({str(count)!r}, 'a').write('.')\ndef daily_forecast():\n    return 'ok'\n"
    (tools / "Weather/sky_watch/api.py").write_text(source, encoding="utf-8")
    files = ApiFiles(tools)
    with ThreadPoolExecutor(8) as pool:
        functions = list(pool.map(lambda _: files.function("Weather", "sky_watch", "daily_forecast"), range(8)))
    assert len(set(functions)) == 1
    assert count.read_text() == "."


def test_a_tool_without_code_is_named(tools):
    with pytest.raises(DataError, match="airbnb_listings"):
        ApiFiles(tools).function("Travel", "airbnb_listings", "prices_and_availability_by_administrative_divisions")


def test_a_call_that_hangs_is_left_behind(tools):
    release = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, release.wait)
    release.set()
    assert ask(tools, '{"city": "hang"}', timeout_s=0.05) == {"error": "Timeout error...", "response": ""}


def test_long_responses_are_cut(tools):
    assert ask(tools, '{"city": "long"}') == {"error": "", "response": "x" * 2048}


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ("Your Client (working) ---> Gateway (working) ---> API (not working)", "API not working error..."),
        ("401 Unauthorized", "Unauthorized error..."),
        ("You are not subscribed to this API.", "Unsubscribed error..."),
        ("Too many requests", "Too many requests error..."),
        ("You have exceeded the rate", "Rate limit error..."),
        ("Oops, an error in the gateway has occurred.", "Gateway error..."),
        ("Blocked User. Please contact your API provider.", "Blocked error..."),
        ('{"error": "no such city"}', "Message error..."),
        ("sunny", ""),
    ],
)
def test_errors_are_recognised_by_what_apis_say(response, error):
    assert error_in(response) == error


def test_filter_keeps_the_keys_that_the_examples_have(tools):
    examples = tools.parent / "response_examples/Weather/sky_watch.json"
    examples.parent.mkdir(parents=True)
    schema = {"city": "str", "inner": [{"t": "int"}]}
    examples.write_text(json.dumps({"api_list": [{"name": "Daily Forecast", "schema": schema}]}), encoding="utf-8")
    assert ask(tools, "{}", strip="filter")["response"] == "{'city': 'nowhere', 'inner': [{'t': 1}]}"
    assert "'days': 1" in ask(tools, "{}", strip="truncate")["response"]


def test_an_environment_calls_the_tools_code_when_told_to(tools):
    args = command_line(tools, use_rapidapi_key=True, rapidapi_key="k3y")
    env = rapidapi_wrapper(query(entry()), None, "truth", None, None, args)
    observation, code = env.step(action_name=FORECAST, action_input='{"city": "Paris"}')
    assert code == 0
    assert "'key': 'k3y'" in json.loads(observation)["response"]
    assert env.step(action_name=FORECAST, action_input='{"city": "the error city"}')[1] == 11
