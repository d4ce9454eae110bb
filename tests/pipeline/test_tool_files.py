"""The tool folder: what counts as a tool, and that names from outside stay inside it."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.tool_files import (
    ToolFiles,
    contain,
    get_white_list,
    read_tools_json,
)
from evaluation.toolbench.inference.errors import DataError
from tests.helpers.environment import RENTALS, FakeApi, command_line, entry, write_tools


def test_the_white_list_has_every_tool_and_leaves_out_what_is_none(tmp_path, caplog):
    root = write_tools(tmp_path)
    (root / "Weather/broken.json").write_text("{", encoding="utf-8")
    (root / "Weather/half.json").write_text('{"tool_name": "Half", "api_list": [{}]}', encoding="utf-8")
    white_list = get_white_list(root)
    assert white_list == {
        "airbnb_listings": {"description": "", "standard_tool_name": "airbnb_listings"},
        "sky_watch": {"description": "The sky,\nday by day", "standard_tool_name": "sky_watch"},
    }
    assert "broken.json" in caplog.text
    assert "half.json" in caplog.text
    assert contain(["sky_watch"], white_list) == [white_list["sky_watch"]]
    assert contain(["sky_watch", "tides"], white_list) is False


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="--tool_root_dir"):
        get_white_list(tmp_path / "absent")


@pytest.mark.parametrize(
    "content", ["{", '{"tool_name": "x"}', "[5]", '[{"tool_name": "x", "category_name": "c", "api_list": [{}]}]']
)
def test_a_broken_tools_json_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "tools.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"tools\.json") as error:
        read_tools_json(path)
    assert "\n" not in str(error.value)


def test_categories_are_found_by_their_own_name_or_their_folders(tmp_path):
    root = write_tools(tmp_path)
    (root / "News_Media").mkdir()
    (root / "News_Media/the_times.json").write_text(
        json.dumps({"tool_name": "The Times", "api_list": []}), encoding="utf-8"
    )
    files = ToolFiles(root)
    assert files.descriptions([entry("The Times", category="News, Media"), entry(RENTALS, category="Travel")]) == [
        ["the_times", ""],
        ["airbnb_listings", ""],
    ]


def test_parameters_without_a_name_are_left_out(tmp_path):
    root = write_tools(tmp_path)
    api = {"name": "Tides", "required_parameters": [{"name": "port"}, {}, 5, {"name": None}], "optional_parameters": 3}
    tool = {"tool_name": "Sea Watch", "api_list": [api]}
    (root / "Weather/sea_watch.json").write_text(json.dumps(tool), encoding="utf-8")
    api_json = ToolFiles(root).api_json(entry("Sea Watch", "Tides"))
    assert (api_json["required_parameters"], api_json["optional_parameters"]) == ([{"name": "port"}], [])


@given(category=st.text() | st.sampled_from(["..", "../..", "/etc", ".", "Weather/.."]), tool=st.text())
def test_no_name_leads_out_of_the_folder(tmp_path_factory, category, tool):
    root = tmp_path_factory.getbasetemp().resolve() / "tools"
    files = ToolFiles(root)
    outside = entry(tool, category=category)
    path = files.path_of(outside)
    assert ".." not in path.relative_to(root).parts
    assert not files.has(outside)
    with pytest.raises(DataError):
        files.descriptions([outside])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=()), max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
parameters = st.lists(
    st.fixed_dictionaries(
        {"name": json_values | st.just("city")},
        optional={"type": json_values, "description": json_values, "default": json_values},
    )
    | json_values,
    max_size=2,
)


@given(
    api=st.fixed_dictionaries(
        {"name": st.just("Daily Forecast")},
        optional={
            "description": json_values,
            "required_parameters": parameters | json_values,
            "optional_parameters": parameters | json_values,
        },
    ),
    described=json_values,
    mark=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_tool_file_holds_its_functions_can_be_described(tmp_path, api, described, mark):
    tool = {"tool_name": "Sea Watch", "tool_description": described, "api_list": [api]}
    path = tmp_path / "Weather/sea_watch.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(tool), encoding=mark)
    files = ToolFiles(tmp_path)
    question = {"query": "?", "api_list": [entry("Sea Watch")]}
    args = command_line(tmp_path)
    env = rapidapi_wrapper(question, None, "truth", None, None, args, client=FakeApi(), tool_files=files)
    [function] = env.truth_functions.values()
    json.dumps(function)
    assert isinstance(env.task_description, str)


@given(
    category=st.text(st.characters(exclude_categories=())) | st.just("x" * 5000), tool=st.text() | st.just("x" * 5000)
)
def test_any_name_of_a_tool_is_a_known_one_or_a_data_error(tmp_path_factory, category, tool):
    files = ToolFiles(tmp_path_factory.getbasetemp())
    assert not files.has(entry(tool, category=category))
    with pytest.raises(DataError):
        files.api_json(entry(tool, category=category))
