"""CoT@n: the path of one try, the tries of a query, and the record in the answer file."""

import json

import pytest

from evaluation.toolbench.inference.Algorithms.single_chain import single_chain
from evaluation.toolbench.inference.errors import StopRequested
from tests.helpers.environment import AIR, ANSWER, FORECAST, GIVE_UP, FakeApi, ScriptedModel, calls, make_env, says

FINISH = calls("Finish", ANSWER, "done")


def run(model, env, *, steps=16, pass_at=1):
    chain = single_chain(model, env)
    return chain, chain.start(single_chain_max_step=steps, pass_at=pass_at)


def test_a_final_answer_ends_the_try_and_the_run(tmp_path):
    model = ScriptedModel(calls(FORECAST, '{"city": "Paris"}', "look it up"), FINISH)
    chain, result = run(model, make_env(tmp_path), pass_at=3)
    assert (result, chain.status, chain.query_count, chain.total_tokens) == (1, 1, 2, 10)
    assert len(chain.try_list) == 1
    assert [node["node_type"] for node in chain.try_list[0]["chain"]] == ["Thought", "Action", "Action Input"] * 2


def test_the_answer_record_has_the_keys_of_the_answer_file_in_their_order(tmp_path):
    chain, _ = run(ScriptedModel(calls(FORECAST, "{}", "a"), FINISH), make_env(tmp_path))
    record = chain.to_json(answer=True, process=True)
    assert list(record) == ["win", "try_count", "trys", "compare_candidates", "forward_args", "answer_generation"]
    assert record["forward_args"] == {"single_chain_max_step": 16, "pass_at": 1, "answer": 1}
    assert list(record["trys"][0]) == ["chain", "win"]
    generation = record["answer_generation"]
    assert list(generation) == [
        "valid_data",
        "final_answer",
        "function",
        "query_count",
        "total_tokens",
        "train_messages",
        "chain",
    ]
    assert (generation["valid_data"], generation["final_answer"], generation["chain"]) == (True, ANSWER, [])
    assert list(generation["function"])[-1] == "Finish"
    assert record["compare_candidates"] == [record["trys"][0]["chain"]]
    json.dumps(record)


def test_an_unanswered_query_has_an_empty_answer(tmp_path):
    chain, result = run(ScriptedModel(calls(FORECAST)), make_env(tmp_path), pass_at=2)
    record = chain.to_json(answer=True)
    assert (result, record["win"], record["try_count"], record["compare_candidates"]) == (0, False, 2, [])
    generation = record["answer_generation"]
    assert (generation["valid_data"], generation["final_answer"], generation["train_messages"]) == (False, "", [])
    assert chain.final_messages() == chain.terminal_node[0].messages


@pytest.mark.parametrize(("thought", "num_steps", "depth"), [("hm", 6, 18), (None, 8, 16)])
def test_sixteen_nodes_are_six_steps_with_thoughts_and_eight_without(tmp_path, thought, num_steps, depth):
    chain, _ = run(ScriptedModel(calls(FORECAST, "{}", thought)), make_env(tmp_path))
    assert (chain.query_count, chain.terminal_node[0].get_depth()) == (num_steps, depth)
    assert chain.terminal_node[0].pruned


def test_giving_up_ends_a_try_and_the_next_one_starts_from_the_query(tmp_path):
    model = ScriptedModel(calls(FORECAST, "{}", "a"), calls("Finish", GIVE_UP), FINISH)
    chain, result = run(model, make_env(tmp_path), pass_at=2)
    assert result == 1
    assert [attempt["win"] for attempt in chain.try_list] == [False, True]
    assert chain.try_list[0]["chain"][-1]["observation_code"] == 4
    assert model.asked[2] == model.asked[0]
    assert chain.to_json(answer=True)["answer_generation"]["valid_data"] is True


def test_the_model_is_shown_the_result_of_its_call(tmp_path):
    model = ScriptedModel(calls(FORECAST, "{}", "a"), FINISH)
    run(model, make_env(tmp_path, api=FakeApi(("rain", 0))))
    first, second = model.asked
    assert [message["role"] for message in first] == ["system", "user"]
    assert first[1]["content"] == "\nHow is the weather in Paris?\nBegin!\n"
    assert second[-1] == {"role": "tool", "name": FORECAST, "content": "rain", "tool_call_id": None}


def test_an_unknown_function_keeps_its_name_in_the_tree_alone(tmp_path):
    model = ScriptedModel(calls("no_such_api", "{}"), FINISH)
    chain, _ = run(model, make_env(tmp_path))
    action, action_input = chain.try_list[0]["chain"][:2]
    assert (action["description"], action_input["observation_code"]) == ("no_such_api", 1)
    message, reply = model.asked[1][2:]
    assert message["tool_calls"][0]["function"]["name"] == "invalid_hallucination_function_name"
    assert (reply["role"], reply["name"]) == ("tool", "invalid_hallucination_function_name")


def test_several_calls_of_one_message_are_all_made(tmp_path):
    both = calls(FORECAST, "{}", "two at once")
    both["tool_calls"] += calls(AIR)["tool_calls"]
    api, model = FakeApi(), ScriptedModel(both, FINISH)
    query_json = {
        "query": "q",
        "api_list": [
            {"category_name": "Weather", "tool_name": "Sky Watch", "api_name": name}
            for name in ("Daily Forecast", "Air Quality")
        ],
    }
    run(model, make_env(tmp_path, query_json=query_json, api=api))
    assert [request["api_name"] for request in api.calls] == ["daily_forecast", "air_quality"]
    assert [message["role"] for message in model.asked[1][2:]] == ["assistant", "tool", "tool"]


@pytest.mark.parametrize(("arguments", "win"), [(ANSWER, True), (GIVE_UP, False)])
def test_calls_after_the_one_that_ends_the_try_are_not_made(tmp_path, arguments, win):
    """ToolBench makes them, and takes the last one's arguments for the final answer."""
    both = calls("Finish", arguments, "two at once")
    both["tool_calls"] += calls(FORECAST)["tool_calls"]
    api, model = FakeApi(), ScriptedModel(both)
    chain, result = run(model, make_env(tmp_path, api=api))
    assert (result, chain.query_count, api.calls) == (int(win), 1, [])
    assert chain.to_json(answer=True)["answer_generation"]["final_answer"] == (ANSWER if win else "")


def test_a_model_that_only_talks_or_says_nothing_still_reaches_the_limit(tmp_path):
    for reply in (says("let me think"), {"role": "assistant", "content": None}):
        chain, result = run(ScriptedModel(reply), make_env(tmp_path), steps=4)
        assert (result, chain.query_count) == (0, 4)


def test_train_messages_grow_by_one_step_each(tmp_path):
    chain, _ = run(ScriptedModel(calls(FORECAST, "{}", "a"), FINISH), make_env(tmp_path))
    first, second = chain.to_json(answer=True)["answer_generation"]["train_messages"]
    assert [message["role"] for message in second] == ["system", "user", "assistant", "tool", "assistant"]
    assert second[: len(first)] == first


def test_an_error_of_the_model_ends_the_try(tmp_path):
    class Failing(ScriptedModel):
        def parse(self, tools, process_id):
            return {"role": "assistant", "content": "out of memory"}, -1, 0

    chain, result = run(Failing(), make_env(tmp_path))
    assert (result, chain.terminal_node[0].pruned, chain.terminal_node[0].observation_code) == (0, True, -1)


def test_a_message_that_is_not_the_assistants_is_refused(tmp_path):
    with pytest.raises(ValueError, match="role 'user'"):
        run(ScriptedModel({"role": "user", "content": ""}), make_env(tmp_path))


def test_a_callback_may_fail_and_may_stop_the_search(tmp_path):
    class Failing:
        def on_llm_start(self, depth, messages):
            raise RuntimeError("display is gone")

    class Stopping:
        def on_llm_start(self, depth, messages):
            raise StopRequested

    model = ScriptedModel(FINISH)
    chain = single_chain(model, make_env(tmp_path), callbacks=[Failing()])
    assert chain.start(single_chain_max_step=16) == 1
    with pytest.raises(StopRequested):
        single_chain(model, make_env(tmp_path), callbacks=[Stopping()]).start(single_chain_max_step=16)
