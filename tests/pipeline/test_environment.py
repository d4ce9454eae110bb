"""The environment of one query: providers, calls, observations, copies."""

import copy
import json
import os
import subprocess
import sys
import time

import pytest

from evaluation.toolbench.inference.Downstream_tasks.api_caller import api_caller, service_url
from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.functions import ToolPackage
from evaluation.toolbench.inference.Downstream_tasks.local_apis import LocalApis
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.names import ActionName
from evaluation.toolbench.virtual_api.client import ApiClient
from tests.helpers.environment import (
    AIR,
    ANSWER,
    FORECAST,
    PRICES,
    RENTALS,
    ROOM_PRICES,
    SHARED_NAME,
    TOOLS,
    FakeApi,
    command_line,
    entry,
    make_env,
    query,
    write_tools,
)


class FakeRetriever:
    def __init__(self, *apis):
        self.apis = [{"category": c, "tool_name": t, "api_name": a} for c, t, a in apis]

    def retrieving(self, query, top_k):
        return self.apis


def test_truth_offers_the_querys_own_apis_and_finish(tmp_path):
    env = make_env(tmp_path)
    assert list(env.functions) == [FORECAST, "Finish"]
    assert env.api_name_reflect == {FORECAST: "daily_forecast"}
    assert (env.tool_names, env.cate_names) == ({FORECAST: "sky_watch"}, {FORECAST: "Weather"})
    assert env.input_description == "How is the weather in Paris?"
    assert list(env.truth_functions) == [FORECAST]


def test_retriever_offers_what_was_retrieved_and_has_a_file(tmp_path):
    retriever = FakeRetriever(
        ("Weather", "sky_watch", "air_quality"),
        ("Weather", "no_such_tool", "x"),
        ("Travel", "airbnb_listings", "prices_and_availability_by_administrative_divisions"),
        ("Weather", "sky_watch", "daily_forecast"),
    )
    env = make_env(tmp_path, provider="retriever", retriever=retriever, retrieved_api_nums=2)
    assert list(env.functions) == [AIR, SHARED_NAME, "Finish"]
    assert list(env.truth_functions) == [AIR, SHARED_NAME]
    assert "1.sky_watch: The sky,day by day\n2.airbnb_listings: None\n" in env.task_description


def test_all_offers_every_api_and_remembers_the_querys_own(tmp_path):
    env = make_env(tmp_path, provider="all")
    assert list(env.functions) == [FORECAST, AIR, SHARED_NAME, "Finish"]
    assert list(env.truth_functions) == [FORECAST]
    assert env.step(action_name=AIR, action_input="{}")[1] == 0


def test_all_may_be_given_as_toolbenchs_dictionary(tmp_path):
    package = ToolPackage.of_tools(TOOLS)
    fields = ("functions", "api_name_reflect", "tool_names", "cate_names", "data_dict")
    as_dictionary = {name: getattr(package, name) for name in fields}
    root, api = write_tools(tmp_path / "tools"), FakeApi(("fine", 0))
    env = rapidapi_wrapper(query(), None, "all", as_dictionary, None, command_line(root), client=api)
    assert list(env.functions) == [FORECAST, AIR, SHARED_NAME, "Finish"]
    assert (env.api_name_reflect, env.tool_names, env.cate_names) == tuple(map(as_dictionary.get, fields[1:4]))
    for name in (AIR, ActionName.of("Sky Watch", "Air Quality")):
        assert env.step(action_name=name, action_input="{}") == ("fine", 0)
    assert [(call["tool_name"], call["api_name"]) for call in api.calls] == [("sky_watch", "air_quality")] * 2


def test_the_querys_own_names_know_their_api(tmp_path):
    env = make_env(tmp_path, provider="all", query_json=query(entry(RENTALS, PRICES, "Travel")))
    [name] = env.truth_functions
    assert (name.tool_name, name.api_name) == (RENTALS, PRICES)


def test_a_name_that_two_of_the_querys_apis_share_stands_for_both(tmp_path):
    both = query(entry(RENTALS, PRICES, "Travel"), entry(RENTALS, ROOM_PRICES, "Travel"))
    [name] = make_env(tmp_path, provider="all", query_json=both).truth_functions
    assert name == SHARED_NAME
    assert not isinstance(name, ActionName)


def test_a_provider_without_its_source_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--retrieval_model_path"):
        make_env(tmp_path, provider="retriever")
    with pytest.raises(NotImplementedError, match="oracle"):
        make_env(tmp_path, provider="oracle")
    with pytest.raises(ConfigError, match=r"tools\.json"):
        rapidapi_wrapper(query(), None, "all", None, None, command_line(tmp_path), client=FakeApi())


@pytest.mark.parametrize("provider", ["truth", "all"])
def test_an_unknown_tool_is_refused_with_tool_and_query(tmp_path, provider):
    with pytest.raises(DataError, match=r"query 7.*'Sea Watch'") as error:
        make_env(tmp_path, provider=provider, query_json=query(entry("Sea Watch")))
    assert error.value.details == {"query_id": 7, "tool_name": "Sea Watch"}


def test_an_api_that_its_tool_does_not_have_is_left_out(tmp_path, caplog):
    env = make_env(tmp_path, query_json=query(entry(), entry(api="Tides")))
    assert list(env.truth_functions) == [FORECAST]
    assert "'Tides'" in caplog.text


def test_tools_are_described_once_each_in_one_line(tmp_path):
    descriptions = [["sky_watch", "old"], ["rentals", "a\n" * 400], ["sky_watch", " new "], ["blank", "\n"]]
    env = make_env(tmp_path, tool_descriptions=descriptions)
    *_, first, second, third, end = env.task_description.split("\n")
    assert (first, third, end) == ("1.sky_watch: new", "3.blank: None", "")
    assert second == "2.rentals: " + "a" * 256  # 512 characters with their line breaks


def test_a_call_goes_where_its_name_says(tmp_path):
    api = FakeApi(("fine", 0))
    env = make_env(tmp_path, api=api, observ_compress_method="filter")
    assert env.step(action_name=FORECAST, action_input='{"city": "Paris"}') == ("fine", 0)
    assert api.calls == [
        {
            "category": "Weather",
            "tool_name": "sky_watch",
            "api_name": "daily_forecast",
            "tool_input": '{"city": "Paris"}',
            "strip": "filter",
        }
    ]


def test_an_unknown_name_is_told_as_such_and_calls_nothing(tmp_path):
    api = FakeApi()
    env = make_env(tmp_path, api=api)
    observation, code = env.step(action_name="no such", action_input="{}")
    assert (json.loads(observation), code) == ({"error": "No such function name: no such", "response": ""}, 1)
    assert env.step(action_name=ActionName.of("Sky Watch", "Air Quality"), action_input="{}")[1] == 1
    assert api.calls == []


def test_long_observations_are_cut(tmp_path):
    env = make_env(tmp_path, api=FakeApi(("x" * 20, 0)), max_observation_length=10)
    assert env.step(action_name=FORECAST, action_input="{}")[0] == "x" * 10 + "..."
    env = make_env(tmp_path, api=FakeApi(("x" * 10, 0)), max_observation_length=10)
    assert env.step(action_name=FORECAST, action_input="{}")[0] == "x" * 10


def test_a_copy_shares_the_tools_and_has_a_success_of_its_own(tmp_path):
    env = make_env(tmp_path, provider="all", retriever=FakeRetriever())
    for twin in (env.copy(), copy.deepcopy(env)):
        assert twin.functions is env.functions
        assert (twin.client, twin.retriever, twin.tool_package) == (env.client, env.retriever, env.tool_package)
        assert twin.step(action_name="Finish", action_input=ANSWER)[1] == 3
        assert (twin.check_success(), env.check_success()) == (1, 0)
        assert twin.copy().check_success() == 1
        twin.restart()
        assert twin.check_success() == 0
    assert (env.to_json(), env.get_score()) == ({}, 0.0)


def test_without_a_client_the_arguments_and_service_url_say_who_is_called(tmp_path, monkeypatch):
    monkeypatch.setenv("SERVICE_URL", "http://127.0.0.1:9/virtual")
    remote = api_caller(command_line(tmp_path))
    assert isinstance(remote, ApiClient)
    assert api_caller(command_line(tmp_path)) is remote
    assert isinstance(api_caller(command_line(tmp_path, use_rapidapi_key=True)), LocalApis)
    assert isinstance(api_caller(command_line(tmp_path, api_customization=True)), LocalApis)
    monkeypatch.delenv("SERVICE_URL")
    assert service_url() == "http://localhost:8080/virtual"


def test_a_call_is_answered_by_a_running_server(tmp_path, monkeypatch):
    root = write_tools(tmp_path / "tools")
    for api, answer in [("prices", "all"), ("rooms_prices", "rooms")]:
        record = (
            tmp_path
            / f"cache/Travel/airbnb_listings_for_Travel/{api}_and_availability_by_administrative_divisions.json"
        )
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"{'city': 'Rome'}": {"error": "", "response": answer}}), encoding="utf-8")
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "evaluation.toolbench.virtual_api", "--port", "0"]
    options = ["--cache_dir", str(tmp_path / "cache"), "--ready_file", str(ready)]
    server = subprocess.Popen([*command, *options, "--exit_with_parent", str(os.getpid())])
    try:
        deadline = time.monotonic() + 300
        while not ready.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        monkeypatch.setenv("SERVICE_URL", ready.read_text().strip())
        entries = [entry(RENTALS, api, "Travel") for api in (PRICES, ROOM_PRICES)]
        env = rapidapi_wrapper(query(*entries), None, "truth", None, None, command_line(root))
        for api, answer in [(PRICES, "all"), (ROOM_PRICES, "rooms")]:
            observation, code = env.step(action_name=ActionName.of(RENTALS, api), action_input='{"city": "Rome"}')
            assert (json.loads(observation), code) == ({"error": "", "response": answer}, 0)
    finally:
        server.terminate()
        server.wait(timeout=60)
