"""The searches with the real ToolGen agents: a scripted engine says what, a random model says anything."""

import json

import pytest

from evaluation.toolbench.inference.Algorithms.DFS import DFS_tree_search
from evaluation.toolbench.inference.Algorithms.single_chain import single_chain
from evaluation.toolbench.inference.Downstream_tasks.environment import rapidapi_wrapper
from evaluation.toolbench.inference.Downstream_tasks.functions import ToolPackage
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.LLM.toolgen import ToolGen
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.names import standardize
from tests.helpers.environment import ANSWER, FORECAST, FakeApi, command_line, query
from tests.helpers.toolgen import (
    NAMES,
    SKY_WATCH,
    TOOLS,
    scripted_agent,
    shared_tokenizer,
    tiny_llama,
    write_data_folder,
)

LOOK = ["I look it up.", SKY_WATCH, '{"city": "Paris"}']
FINISH = ["Done.", "<<Finish>>", ANSWER]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = write_data_folder(tmp_path_factory.mktemp("toolgen") / "data")
    for tool in TOOLS:
        path = folder / "toolenv/tools" / tool["category_name"] / f"{standardize(tool['tool_name'])}.json"
        path.parent.mkdir()
        path.write_text(json.dumps(tool), encoding="utf-8")
    return folder


def environment(data_dir, api, provider="all"):
    root = data_dir / "toolenv/tools"
    return rapidapi_wrapper(query(), None, provider, ToolPackage.of_tools(TOOLS), None, command_line(root), client=api)


@pytest.fixture(scope="module")
def random_model():
    model = tiny_llama(len(shared_tokenizer()))
    engine = GenerateEngine(model)
    yield model, engine
    engine.close()


def random_agent(agent_class, random_model, data_dir, **options):
    options = {"data_dir": data_dir, "max_new_tokens": 4, "restrict_actions": "all", **options}
    return agent_class.around(*random_model[:1], shared_tokenizer(), random_model[1], AgentOptions(**options))


def names_called(nodes):
    return {node["description"] for node in nodes if node["node_type"] == "Action"}


def nodes_below(tree):
    for child in tree["children"]:
        yield child
        yield from nodes_below(child)


@pytest.mark.parametrize("provider", ["all", "truth"])
def test_cot_makes_the_calls_of_an_agent_and_shows_it_the_results(data_dir, provider):
    agent, engine = scripted_agent(data_dir, LOOK + FINISH)
    api = FakeApi(("sunny", 0))
    chain = single_chain(agent, environment(data_dir, api, provider))
    assert chain.start(single_chain_max_step=16) == 1
    assert [request["tool_input"] for request in api.calls] == ['{"city": "Paris"}']
    assert "sunny" in engine.prompts()[3]
    generation = chain.to_json(answer=True)["answer_generation"]
    assert (generation["final_answer"], generation["query_count"]) == (ANSWER, 2)
    assert generation["train_messages"][-1][-1]["tool_calls"][0]["function"]["name"] == "Finish"


def test_d31_a_tool_of_the_query_that_has_no_action_is_left_out(data_dir):
    """ToolGen's own agent ends the run on the first name that its table of tokens lacks."""
    look = ["I look it up.", "sky watch daily", '{"city": "Paris"}']
    finish = ["Done.", "Finish", ANSWER]
    agent, engine = scripted_agent(data_dir, look + finish, indexing="Semantic", restrict_actions="truth")
    env = environment(data_dir, FakeApi(("sunny", 0)))
    env.truth_functions = {"tides_for_sky_watch": {}, **env.truth_functions}
    assert single_chain(agent, env).start(single_chain_max_step=16) == 1
    allowed = agent.language.actions.allowed(("sky watch daily", "Finish"))
    assert engine.requests[1].constraint is allowed.constraint


def test_dfs_tells_an_agent_what_it_tried_and_lets_it_choose_between_siblings(data_dir):
    other = ["Another day.", SKY_WATCH, '{"city": "Rome"}']
    # Two siblings, both orders of the pair (the second sibling wins twice), its two children and their pair.
    answers = [*LOOK, *other, "B", "A", *FINISH, *FINISH, "A", "B"]
    agent, engine = scripted_agent(data_dir, answers)
    search = DFS_tree_search(agent, environment(data_dir, FakeApi(("rain", 0))))
    search.start(16, 2, 60, with_filter=True)
    assert search.terminal_node[0].path()[2].description == '{"city": "Rome"}'
    assert FORECAST in engine.prompts()[3]
    assert search.to_json(answer=True)["answer_generation"]["finish_type"] == "give_answer"


@pytest.mark.parametrize(("agent_class", "indexing"), [(ToolGenAtomic, "Atomic"), (ToolGen, "Semantic")])
@pytest.mark.parametrize("method", ["CoT", "DFS"])
def test_whatever_a_restricted_model_does_it_calls_tools_of_the_catalog(
    data_dir, random_model, agent_class, indexing, method
):
    agent = random_agent(agent_class, random_model, data_dir, indexing=indexing).for_query("7")
    env = environment(data_dir, FakeApi(("x", 0)))
    if method == "CoT":
        search = single_chain(agent, env)
        search.start(single_chain_max_step=6)
        nodes = search.to_json()["trys"][0]["chain"]
    else:
        search = DFS_tree_search(agent, env)
        search.start(6, 2, 10, with_filter=True)
        nodes = list(nodes_below(search.to_json()["tree"]["tree"]))
    agent.finish_query()
    assert names_called(nodes)
    assert names_called(nodes) <= {*NAMES, "Finish"}
    json.dumps(search.to_json(answer=True))
