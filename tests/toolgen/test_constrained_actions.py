"""A model with random weights, asked for actions: constrained, each is a tool of the catalog, however warm the draw."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.LLM.toolgen import ToolGen
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from tests.helpers.toolgen import NAMES, first_messages, shared_tokenizer, tiny_llama, write_data_folder

STYLES = {"llama-3": "llama-3", "qwen-7b-chat": "qwen"}
AGENTS = [
    (ToolGenAtomic, "Atomic"),
    (ToolGen, "Atomic"),
    (ToolGen, "Semantic"),
    (ToolGen, "Numeric"),
    (ToolGen, "Hierarchical"),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_data_folder(tmp_path_factory.mktemp("tools") / "data")


@pytest.fixture(scope="module", params=STYLES)
def template(request):
    return request.param


@pytest.fixture(scope="module")
def model(template):
    return tiny_llama(len(shared_tokenizer(STYLES[template])))


@pytest.fixture(scope="module")
def engine(model):
    engine = GenerateEngine(model)
    yield engine
    engine.close()


def make_agent(agent_class, model, engine, template, data_dir, **options):
    options = {"template": template, "data_dir": data_dir, "max_new_tokens": 4, **options}
    return agent_class.around(model, shared_tokenizer(STYLES[template]), engine, AgentOptions(**options))


def called(agent, query_id, temperature, **how):
    """The function that a random model calls in its first step."""
    agent = agent.for_query(query_id)
    agent.change_messages(first_messages())
    message, code, _ = agent.parse(tools={NAMES[0]: {}}, process_id=0, temperature=temperature, **how)
    agent.finish_query()
    assert code == 0
    return message["tool_calls"][0]["function"]["name"]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5, 50.0])
@pytest.mark.parametrize(("agent_class", "indexing"), AGENTS)
def test_every_action_is_a_tool_of_the_catalog(agent_class, indexing, temperature, model, engine, template, data_dir):
    agent = make_agent(agent_class, model, engine, template, data_dir, indexing=indexing, restrict_actions="all")
    names = {called(agent, str(query), temperature, planning=False) for query in range(4)}
    assert names <= {*NAMES, "Finish"}


@pytest.mark.parametrize(("agent_class", "indexing"), AGENTS)
def test_restricted_to_the_truth_every_action_is_one_of_the_query(
    agent_class, indexing, model, engine, template, data_dir
):
    agent = make_agent(agent_class, model, engine, template, data_dir, indexing=indexing, restrict_actions="truth")
    names = {called(agent, str(query), 50.0, planning=False) for query in range(8)}
    assert names == {NAMES[0], "Finish"}


@pytest.mark.parametrize("name", ["generate", "paged"])
def test_eight_threads_of_siblings_answer_as_one_would(name, model, engine, template, data_dir):
    def answer(agent, query):
        sibling = agent.for_query(str(query))
        messages = first_messages(f"Question {query}?")
        codes = []
        for _ in range(2):
            sibling.change_messages(messages)
            message, code, tokens = sibling.parse(tools={}, process_id=query, temperature=1.0)
            messages += [message, {"role": "tool", "name": "any", "content": "{}"}]
            codes.append((code, tokens))
        sibling.finish_query()
        return messages, codes, sibling.logs

    alone = make_agent(ToolGenAtomic, model, engine, template, data_dir, restrict_actions="all")
    one_by_one = [answer(alone, query) for query in range(8)]
    assert len({str(messages) for messages, _, _ in one_by_one}) == 8
    shared_engine = make_engine(name, model)
    together = make_agent(ToolGenAtomic, model, shared_engine, template, data_dir, restrict_actions="all")
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda query: answer(together, query), range(8))) == one_by_one
    shared_engine.close()
