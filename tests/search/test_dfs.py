"""DFS: order of the search, its budget, what it tells the model, and the record in the answer file."""

import json

from evaluation.toolbench.inference.Algorithms.DFS import DFS_tree_search
from evaluation.toolbench.inference.Tree.base_env import base_env
from tests.helpers.environment import (
    ANSWER,
    FORECAST,
    GIVE_UP,
    FakeApi,
    ScriptedModel,
    ScriptedToolGen,
    calls,
    make_env,
)

FINISH = calls("Finish", ANSWER)
QUIT = calls("Finish", GIVE_UP)
LOOK = calls(FORECAST, '{"city": "Paris"}')


def run(model, env, *, steps=16, width=2, budget=50, answer=1, with_filter=False, callbacks=None):
    search = DFS_tree_search(model, env, callbacks=callbacks)
    return search, search.start(steps, width, budget, answer=answer, with_filter=with_filter)


def test_without_a_filter_the_first_answer_ends_the_search(tmp_path):
    search, result = run(ScriptedModel(LOOK, FINISH), make_env(tmp_path))
    assert (result, search.status, search.query_count, search.total_tokens) == (10000, 1, 2, 10)
    assert search.tree.root.get_size() == 5


def test_the_answer_record_has_the_keys_of_the_answer_file_in_their_order(tmp_path):
    search, _ = run(ScriptedModel(LOOK, FINISH), make_env(tmp_path))
    record = search.to_json(answer=True, process=True)
    assert list(record) == ["win", "tree", "forward_args", "compare_candidates", "answer_generation"]
    assert list(record["tree"]) == ["size", "max_length", "tree"]
    assert record["forward_args"] == {
        "single_chain_max_step": 16,
        "tree_beam_size": 2,
        "max_query_count": 50,
        "answer": 1,
        "with_filter": False,
    }
    assert list(record["forward_args"]) == [
        "single_chain_max_step",
        "tree_beam_size",
        "max_query_count",
        "answer",
        "with_filter",
    ]
    generation = record["answer_generation"]
    assert list(generation) == [
        "valid_data",
        "query_count",
        "total_tokens",
        "final_answer",
        "finish_type",
        "function",
        "chain",
        "train_messages",
    ]
    assert (generation["valid_data"], generation["finish_type"]) == (True, "give_answer")
    assert (generation["final_answer"], generation["chain"]) == (ANSWER, [])
    assert len(generation["train_messages"]) == 2
    assert record["compare_candidates"] == [search.terminal_node[0].get_chain_result_from_this_node()]
    json.dumps(record)


def test_a_give_up_goes_back_two_steps_and_an_answer_is_still_found(tmp_path):
    search, _ = run(ScriptedModel(LOOK, QUIT, LOOK, FINISH), make_env(tmp_path))
    assert search.status == 1
    assert len(search.tree.root.children) == 2  # the first one was left after its first give-up
    assert len(search.tree.root.children[0].children[0].children) == 1


def test_only_give_ups_make_a_valid_record_of_the_last_one(tmp_path):
    """ToolBench takes one at random: here a second run says the same."""
    quits = [calls("Finish", GIVE_UP[:-1] + f', "final_answer": "{number}"}}') for number in range(2)]
    search, _ = run(ScriptedModel(LOOK, quits[0], LOOK, quits[1]), make_env(tmp_path))
    generation = search.to_json(answer=True)["answer_generation"]
    given_up = [node.description for node in search.give_up_node]
    assert (generation["valid_data"], generation["finish_type"]) == (True, "give_up")
    assert (generation["final_answer"], search.to_json()["win"]) == (given_up[-1], False)
    assert len(set(given_up)) == len(given_up) == 2


def test_nothing_found_leaves_the_train_messages_out(tmp_path):
    search, result = run(ScriptedModel(LOOK), make_env(tmp_path), steps=2)
    generation = search.to_json(answer=True)["answer_generation"]
    assert result == 1
    assert (generation["valid_data"], generation["final_answer"]) == (False, "")
    assert "train_messages" not in generation
    assert search.final_messages() == []


def test_the_budget_counts_calls_of_the_model_and_the_last_one_is_thrown_away(tmp_path):
    search, result = run(ScriptedModel(LOOK), make_env(tmp_path), budget=3)
    assert search.query_count == 3
    assert search.tree.root.get_size() == 5
    assert result > 50000


def test_nodes_are_numbered_in_the_order_they_are_expanded(tmp_path):
    search, _ = run(ScriptedModel(LOOK), make_env(tmp_path), steps=4, width=2)
    expanded = [node.expand_num for node in search.tree.root.walk() if node.node_type == "Action Input"]
    assert expanded == list(range(7))


def test_a_second_try_is_told_of_the_first_and_the_hint_holds_for_one_step(tmp_path):
    model = ScriptedModel(LOOK)
    search, _ = run(model, make_env(tmp_path, api=FakeApi(("rain", 0))), steps=2, width=2)
    hint = model.asked[1][-1]
    assert hint["role"] == "user"
    assert '"name": "daily_forecast_for_sky_watch"' in hint["content"]
    assert '"function_output": "rain"' in hint["content"]
    assert '"mento-carlo-action-value": 0.0' in hint["content"]
    assert "valid" not in hint
    assert search.tree.root.messages[-1]["valid"] is False


def test_with_a_filter_siblings_are_made_first_and_followed_best_first(tmp_path):
    class Judge(ScriptedToolGen):
        """Likes whatever comes second in the tree."""

        def parse(self, process_id, tools=None, *, functions=None, function_call=None):
            if function_call != "none":
                return super().parse(process_id, tools)
            text = self.messages[0]["content"]
            first_is_other = text.find('"Rome"') < text.find('"Paris"')
            return {"role": "assistant", "content": "A" if first_is_other else "B."}, 0, 1

    rome = calls(FORECAST, '{"city": "Rome"}')
    model = Judge(LOOK, rome, FINISH)
    search, _ = run(model, make_env(tmp_path), with_filter=True, steps=4)
    answered = search.terminal_node[0].path()
    assert '{"city": "Rome"}' in [node.description for node in answered]
    assert search.query_count == 2 + 2 + 2 + 2  # two children of the root, both orders of the pair, again below it


class Diary(base_env):
    """An environment of somebody else's, which keeps what was done in a list."""

    task_description = input_description = ""

    def __init__(self):
        self.functions = self.truth_functions = {}
        self.done = []

    def step(self, *, action_name, action_input):
        self.done.append(action_input)
        return " then ".join(self.done), 0

    def check_success(self):
        return 0

    def restart(self):
        self.done = []


def test_no_branch_sees_what_an_environment_kept_of_another():
    env = Diary()
    model = ScriptedModel(*(calls("do", name) for name in ("a", "b", "c", "d", "e", "f")))
    search, _ = run(model, env, steps=4)
    seen = [node.observation for node in search.tree.root.walk() if node.node_type == "Action Input"]
    assert seen == ["", "a", "a then b", "a then c", "d", "d then e", "d then f"]
    assert env.done == []


def test_callbacks_follow_the_search(tmp_path):
    class Log:
        def __init__(self):
            self.events = []

        def __getattr__(self, name):
            if not name.startswith("on_"):
                raise AttributeError(name)

            def record(**arguments):
                self.events.append((name, arguments))
                return f"{name}-{len(self.events)}"

            return record

    log = Log()
    run(ScriptedModel(LOOK, FINISH), make_env(tmp_path), callbacks=[log])
    step = ["on_chain_start", "on_llm_start", "on_llm_end", "on_agent_action", "on_tool_start", "on_tool_end"]
    assert [name for name, _ in log.events[:8]] == [*step, "on_agent_end", "on_chain_end"]
    arguments = dict(log.events[:8])
    assert set(arguments["on_tool_end"]) == {"depth", "output", "status"}
    assert arguments["on_agent_end"]["block_id"] == "on_agent_action-4"
    assert arguments["on_chain_end"] == {"depth": 0, "block_id": "on_chain_start-1"}
