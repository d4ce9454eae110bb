"""Mistakes of ToolGen's own pipeline that this one must not make: the environment, the searches, local API code.

The numbers are those of our list of upstream defects; the run's own are tested beside the runner.
"""

import ast
import copy
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluation.toolbench.inference.Algorithms.DFS import DFS_tree_search
from evaluation.toolbench.inference.Algorithms.single_chain import single_chain
from evaluation.toolbench.inference.Downstream_tasks import tool_files
from evaluation.toolbench.inference.Downstream_tasks.api_caller import service_url
from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.functions import api_json_to_openai_json
from evaluation.toolbench.inference.Downstream_tasks.local_apis import error_in, get_rapidapi_response
from evaluation.toolbench.inference.Downstream_tasks.tool_files import ToolFiles
from evaluation.toolbench.inference.errors import ApiError, DataError
from evaluation.toolbench.inference.records.finish import parse_finish
from evaluation.toolbench.names import ActionName
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.replies import CODE_OF_ERROR, read_reply
from evaluation.toolbench.virtual_api.retry_policy import CallRetryPolicy
from tests.helpers.environment import (
    ANSWER,
    FORECAST,
    PRICES,
    RENTALS,
    ROOM_PRICES,
    SHARED_NAME,
    FakeApi,
    ScriptedModel,
    ScriptedToolGen,
    calls,
    command_line,
    entry,
    make_env,
    query,
    write_tools,
)

LOOK, FINISH = calls(FORECAST, '{"city": "Paris"}'), calls("Finish", ANSWER)
INFERENCE = Path(tool_files.__file__).parents[1]


class AnsweringApi:
    """Judges a server's reply as the client does."""

    def __init__(self, error: str) -> None:
        self.body = json.dumps({"error": error, "response": ""}).encode()

    def call(self, **_):
        reply = read_reply(200, self.body)
        return reply.observation, reply.code


@pytest.mark.parametrize(("error", "code"), CODE_OF_ERROR.items())
def test_D1_an_api_error_keeps_its_reply_its_code_and_the_calls_name(tmp_path, error, code):
    model = ScriptedModel(calls(FORECAST), FINISH)
    chain = single_chain(model, make_env(tmp_path, api=AnsweringApi(error)))
    chain.start(single_chain_max_step=16)
    assert chain.try_list[0]["chain"][1]["observation_code"] == code
    assistant, tool = model.asked[1][2:]
    assert json.loads(tool["content"])["error"] == error
    assert assistant["tool_calls"][0]["function"]["name"] == FORECAST


def test_D2_a_server_that_fails_is_an_observation_and_no_server_at_all_is_none(tmp_path):
    """What a model makes of nobody's answer is no answer to its query, which a run then tries again."""
    with ApiClient("http://127.0.0.1:9/virtual", retry=CallRetryPolicy(failures=0, unreachable_s=0)) as client:
        chain = single_chain(ScriptedModel(LOOK, FINISH), make_env(tmp_path, api=client))
        with pytest.raises(ApiError, match="could not be reached"):
            chain.start(single_chain_max_step=16)
    failing = FakeApi((json.dumps({"error": "request invalid, data error. status_code=500", "response": ""}), 12))
    chain = single_chain(ScriptedModel(LOOK, FINISH), make_env(tmp_path, api=failing))
    assert chain.start(single_chain_max_step=16) == 1
    assert chain.try_list[0]["chain"][1]["observation_code"] == 12


@pytest.mark.parametrize("with_filter", [False, True])
@pytest.mark.parametrize("provider", ["truth", "all"])
def test_D3_dfs_drives_a_toolgen_agent(tmp_path, with_filter, provider):
    model = ScriptedToolGen(LOOK, LOOK, FINISH)
    env = make_env(tmp_path, provider=provider)
    search = DFS_tree_search(model, env)
    search.start(16, 2, 60, with_filter=with_filter)
    assert (search.status, model.num_queries) == (1, 1)
    assert all(list(functions) == [FORECAST] for functions in model.shown)


def test_D4_dfs_shows_the_calls_own_observation(tmp_path):
    model = ScriptedModel(LOOK, FINISH)
    search = DFS_tree_search(model, make_env(tmp_path, api=FakeApi(("rain", 0))))
    search.start(16, 1, 60, with_filter=False)
    assert model.asked[1][-1]["content"] == "rain"
    assert search.to_json(answer=True)["answer_generation"]["train_messages"][-1][-2]["content"] == "rain"


class OneApiRetriever:
    def retrieving(self, query, top_k):
        return [{"category": "Weather", "tool_name": "sky_watch", "api_name": "daily_forecast"}]


@pytest.mark.parametrize("provider", ["truth", "retriever", "all"])
def test_D6_every_provider_works_with_a_toolgen_agent(tmp_path, provider):
    model = ScriptedToolGen(LOOK, FINISH)
    env = make_env(tmp_path, provider=provider, retriever=OneApiRetriever())
    assert single_chain(model, env).start(single_chain_max_step=16) == 1
    assert list(model.shown[0]) == [FORECAST]


def test_D8_no_node_copies_the_tools(tmp_path):
    env = make_env(tmp_path, provider="all", retriever=OneApiRetriever())
    chain = single_chain(ScriptedToolGen(LOOK, FINISH), env)
    chain.start(single_chain_max_step=16)
    for node in chain.terminal_node[0].path():
        assert node.io_state is not env
        assert node.io_state.functions is env.functions
        assert node.io_state.retriever is env.retriever
        assert copy.deepcopy(node.io_state).cate_names is env.cate_names


def test_D9_no_call_waits_before_it_is_made(tmp_path, monkeypatch):
    env = make_env(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))
    assert env.step(action_name=FORECAST, action_input="{}")[1] == 0


def test_D10_nothing_is_written(tmp_path, monkeypatch):
    write_tools(tmp_path / "tools")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    env = rapidapi_wrapper(query(), None, "truth", None, None, command_line(tmp_path / "tools"), client=FakeApi())
    single_chain(ScriptedModel(LOOK, FINISH), env).start(single_chain_max_step=16)
    assert sorted(tmp_path.rglob("*")) == before


def local_api(tmp_path: Path, source: str) -> Path:
    root = write_tools(tmp_path / "tools")
    (root / "Weather/sky_watch").mkdir()
    (root / "Weather/sky_watch/api.py").write_text(source, encoding="utf-8")
    return root


def ask(root: Path, **arguments):
    request = {"category": "Weather", "tool_name": "sky_watch", "api_name": "daily_forecast", "strip": "truncate"}
    request |= {"tool_input": json.dumps(arguments), "rapidapi_key": ""}
    return get_rapidapi_response(request, True, tools_root=str(root))


def test_D11_arguments_are_data_and_never_run(tmp_path):
    root = local_api(tmp_path, "def daily_forecast(city):\n    return city\n")
    attack = f'", __import__("pathlib").Path({str(tmp_path / "owned")!r}).touch(), "'
    assert ask(root, city=attack) == {"error": "", "response": attack}
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("module", ["server", "Downstream_tasks/api_files", "Downstream_tasks/environment"])
def test_D11_the_way_of_a_call_has_no_eval_and_no_exec(module):
    tree = ast.parse((INFERENCE / f"{module}.py").read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"eval", "exec", "compile", "__import__"}


def test_D12_concurrent_calls_keep_their_arguments(tmp_path):
    source = "import threading\nmeet = threading.Barrier(8)\n"
    root = local_api(tmp_path, source + "def daily_forecast(city):\n    meet.wait(30)\n    return city\n")
    cities = [f"city {k}" for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert [answer["response"] for answer in pool.map(lambda city: ask(root, city=city), cities)] == cities


def test_D12_a_timed_out_api_is_told_apart():
    text = (
        "The request to the API has timed out. Please try again later, or if the issue persists, contact the error desk"
    )
    assert error_in(text) == "API temporarily not working error..."


@pytest.mark.parametrize("arguments", ["[1]", '"text"', "5", "null", "true"])
def test_D14_finish_arguments_that_are_no_object_are_an_observation(tmp_path, arguments):
    observation, code = make_env(tmp_path).step(action_name="Finish", action_input=arguments)
    assert (observation, code) == ('{error:"must have "return_type""}', 2)


@pytest.mark.parametrize("separator", [":", ": ", " : ", ":\n  "])
def test_D15_the_lenient_parser_takes_any_spacing_and_leaves_the_end_off(separator):
    finish = parse_finish(f'{{"return_type"{separator}"give_answer", "final_answer"{separator}"Say "hi"."}}')
    assert (finish.return_type, finish.final_answer) == ("give_answer", 'Say "hi".')


def test_D16_a_query_with_an_unknown_tool_is_an_error_and_not_dropped(tmp_path):
    with pytest.raises(DataError, match=r"query 7.*'Sea Watch'"):
        make_env(tmp_path, query_json=query(entry("Sea Watch")))


def test_D18_optional_parameters_survive_and_nulls_are_blank():
    parameter = {"name": "days", "type": None, "description": None, "default": ""}
    api = {"category_name": "c", "tool_name": "t", "api_name": "a", "api_description": None}
    function, _, _ = api_json_to_openai_json(
        {**api, "required_parameters": [], "optional_parameters": [parameter]}, "t"
    )
    assert function["function"]["parameters"] == {
        "type": "object",
        "properties": {"days": {"type": "string", "description": ""}},
        "required": [],
        "optional": ["days"],
    }


@pytest.mark.parametrize("api_name", [PRICES, ROOM_PRICES])
def test_D19_the_api_that_was_meant_is_called_where_names_are_equal(tmp_path, api_name):
    api = FakeApi()
    model = ScriptedToolGen(calls(ActionName.of(RENTALS, api_name)), FINISH)
    chain = single_chain(model, make_env(tmp_path, provider="all", api=api))
    chain.start(single_chain_max_step=16)
    assert api.calls[0]["api_name"].startswith("rooms_") == (api_name == ROOM_PRICES)
    record = json.loads(json.dumps(chain.to_json(answer=True)))
    assert record["trys"][0]["chain"][0]["description"] == SHARED_NAME


@pytest.mark.parametrize("provider", ["truth", "all"])
def test_D20_a_query_without_apis_still_runs(tmp_path, provider):
    env = make_env(tmp_path, provider=provider, query_json={"query": "q"})
    assert env.truth_functions == {}
    assert single_chain(ScriptedToolGen(FINISH), env).start(single_chain_max_step=16) == 1


def test_D21_the_winning_try_says_so_and_its_last_node_is_terminal(tmp_path):
    chain = single_chain(ScriptedModel(LOOK, FINISH), make_env(tmp_path))
    chain.start(single_chain_max_step=16)
    [attempt] = chain.to_json()["trys"]
    assert attempt["win"] is True
    assert [node["is_terminal"] for node in attempt["chain"]] == [False, False, False, True]


def test_D22_the_searches_run_from_another_folder_whatever_is_called_utils(tmp_path):
    (tmp_path / "utils.py").write_text("raise ImportError('the wrong utils')", encoding="utf-8")
    program = (
        "import evaluation.toolbench.inference.Algorithms.DFS as d, evaluation.toolbench.inference.Tree.Tree as t;"
        "print(t.my_tree().root.get_depth(), d.DFS_tree_search.__name__)"
    )
    path = f"{tmp_path}{os.pathsep}{INFERENCE.parents[2]}"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.returncode) == ("0 DFS_tree_search\n", 0), result.stderr


def test_D26_a_model_that_takes_functions_is_given_functions(tmp_path):
    class Davinci(ScriptedModel):
        def parse(self, functions, process_id):
            return super().parse(functions, process_id)

    model = Davinci(LOOK, FINISH)
    assert single_chain(model, make_env(tmp_path)).start(single_chain_max_step=16) == 1
    assert list(model.shown[0]) == [FORECAST, "Finish"]


def test_D28_no_key_leaves_this_machine_unless_a_server_is_named(monkeypatch):
    monkeypatch.delenv("SERVICE_URL", raising=False)
    assert service_url().startswith("http://localhost:")


def test_D29_base_classes_set_up_what_they_promise(tmp_path):
    search = DFS_tree_search(ScriptedModel(FINISH), make_env(tmp_path), process_id=3, callbacks=["c"])
    assert (search.process_id, search.callbacks, search.query_count, search.terminal_node) == (3, ["c"], 0, [])


def test_D32_a_tools_file_is_read_once(tmp_path, monkeypatch):
    files, read, read_tool = ToolFiles(write_tools(tmp_path)), [], tool_files._read_tool
    monkeypatch.setattr(tool_files, "_read_tool", lambda path: read.append(path) or read_tool(path))
    for api in ("Daily Forecast", "Air Quality") * 3:
        assert files.api_json(entry(api=api)) is not None
    assert len(read) == 1
