"""Function JSON of APIs, and the table of what can be called."""

import copy

import pytest

from evaluation.toolbench.inference.Downstream_tasks.functions import (
    ToolPackage,
    api_json_to_openai_json,
    fetch_api_json_from_tool,
)
from evaluation.toolbench.names import ActionName
from tests.helpers.environment import AIR, FORECAST, PRICES, RENTALS, ROOM_PRICES, SHARED_NAME, TOOLS


def api(**changes):
    return {
        "category_name": "Weather",
        "tool_name": "Sky Watch",
        "api_name": "Daily Forecast",
        "api_description": "Daily Forecast for one city.",
        "required_parameters": [{"name": "city", "type": "STRING", "description": "City name", "default": "Paris"}],
        "optional_parameters": [
            {"name": "days", "type": "NUMBER", "description": "How many days", "default": 3},
            {"name": "Is Metric", "type": "BOOLEAN", "description": "Units", "default": ""},
        ],
        **changes,
    }


def function_of(**changes):
    return api_json_to_openai_json(api(**changes), "sky_watch")[0]["function"]


def test_an_api_becomes_a_function_a_model_can_call():
    function, category, pure_name = api_json_to_openai_json(api(), "sky_watch")
    assert (category, pure_name) == ("Weather", "daily_forecast")
    assert function == {
        "type": "function",
        "function": {
            "name": FORECAST,
            "description": 'This is the subfunction for tool "sky_watch", you can use this tool.'
            f'The description of this function is: "{FORECAST} for one city."',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "City name", "example_value": "Paris"},
                    "days": {"type": "integer", "description": "How many days", "example_value": 3},
                    "is_metric": {"type": "boolean", "description": "Units"},
                },
                "required": ["city"],
                "optional": ["days", "is_metric"],
            },
        },
    }


def test_long_texts_are_cut():
    name = "x" * 80
    function = function_of(
        api_name=name,
        api_description="d" * 300,
        required_parameters=[{"name": "p", "type": "ENUM", "description": "e" * 300, "default": 0}],
    )
    assert function["name"] == ("x" * 80 + "_for_sky_watch")[-64:]
    assert function["description"].endswith(f'"{"d" * 256}"')
    described = function["parameters"]["properties"]["p"]
    assert described == {"type": "string", "description": "e" * 256, "example_value": 0}


@pytest.mark.parametrize("blank", [None, "", "  \n"])
def test_a_blank_description_adds_nothing(blank):
    assert function_of(api_description=blank)["description"].endswith("you can use this tool.")


def test_a_parameter_named_twice_is_listed_once():
    twice = [{"name": "city", "type": "STRING", "description": "", "default": ""}] * 2
    assert function_of(required_parameters=twice)["parameters"]["required"] == ["city"]


def test_a_package_has_every_api_of_tools_json():
    package = ToolPackage.of_tools(TOOLS)
    assert list(package.functions) == [FORECAST, AIR, SHARED_NAME]
    assert package.api_name_reflect[FORECAST] == "daily_forecast"
    assert (package.tool_names[AIR], package.cate_names[AIR]) == ("sky_watch", "Weather")
    assert list(package.functions_and_finish) == [*package.functions, "Finish"]
    assert "Finish" not in package.functions
    assert [api_json["api_name"] for api_json in fetch_api_json_from_tool(TOOLS[1])] == [PRICES, ROOM_PRICES]


@pytest.mark.parametrize("api_name", [PRICES, ROOM_PRICES])
def test_an_action_name_finds_its_own_api_where_two_share_the_name(api_name):
    package = ToolPackage.of_tools(TOOLS)
    name = ActionName.of(RENTALS, api_name)
    assert name == SHARED_NAME
    expected = "rooms_" * (api_name == ROOM_PRICES) + "prices_and_availability_by_administrative_divisions"
    assert package.find(name).api == expected
    assert package.find(copy.deepcopy(name)).api == expected


def test_a_plain_name_finds_the_last_api_of_that_name():
    package = ToolPackage.of_tools(TOOLS)
    assert package.find(SHARED_NAME).api.startswith("rooms_")
    assert package.find("no_such_function") is None
    assert package.find(ActionName.of("Sky Watch", "Tides")) is None


def test_of_apis_with_one_name_the_last_one_stands_in_the_place_of_the_first():
    package = ToolPackage()
    for api_json in (*fetch_api_json_from_tool(TOOLS[1]), api(), *fetch_api_json_from_tool(TOOLS[1])[:1]):
        package.add(api_json)
    assert list(package.functions) == [SHARED_NAME, FORECAST]
    assert package.api_name_reflect[SHARED_NAME].startswith("prices_")
    assert list(package.functions_by_api) == [SHARED_NAME, FORECAST]
    assert [isinstance(name, ActionName) for name in package.functions_by_api] == [False, True]


def test_an_api_that_is_named_twice_keeps_its_place_and_its_own_name():
    package = ToolPackage()
    for api_json in (api(), *fetch_api_json_from_tool(TOOLS[1])[:1], api()):
        package.add(api_json)
    assert list(package.functions) == [FORECAST, SHARED_NAME]
    assert [name.api_name for name in package.functions_by_api] == ["Daily Forecast", PRICES]
