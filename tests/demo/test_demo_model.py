"""The demo's checkpoint: small, complete, and able to answer queries that it was not trained on."""

from __future__ import annotations

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.demo.corpus import demo_catalog
from evaluation.toolbench.demo.samples import DemoQuery, demo_queries
from evaluation.toolbench.demo.score import Call, Verdict, final_answer_of, judge, load_expected
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.names import ActionName
from evaluation.toolbench.virtual_api.cache import ResponseCache
from evaluation.toolbench.virtual_api.cache_names import RecordName
from evaluation.toolbench.virtual_api.keys import parse_tool_input

pytestmark = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").is_file(), reason=f"no trained checkpoint in {MODEL_DIR}"
)

CATEGORIES = {
    tool["tool_name"]: tool["category_name"]
    for tool in json.loads((DATA_DIR / "toolenv/tools/tools.json").read_text(encoding="utf-8"))
}
HELD_OUT = [query for query in demo_queries() if query.split == "held_out"]


SETTINGS = {
    "upstream": {"prompt_layout": "upstream"},
    "trained": {"prompt_layout": "trained"},
    "8-bit KV cache": {"prompt_layout": "upstream", "kv_cache": "fp8"},
}


@pytest.fixture(scope="module", params=SETTINGS)
def agent(request):
    settings = SETTINGS[request.param]
    agent = ToolGenAtomic(str(MODEL_DIR), device="cpu", data_dir=DATA_DIR, max_new_tokens=160, **settings)
    yield agent
    agent.engine.close()


def answer(agent: ToolGenAtomic, query: DemoQuery) -> Verdict:
    """Let the agent work on `query` with the recorded API responses."""
    agent, cache = agent.for_query(str(query.query_id)), ResponseCache(DATA_DIR / "tool_response_cache")
    question = f"\n{query.trajectory.question}\nBegin!\n"
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": question}]
    calls: list[Call] = []
    final_answer = None
    for _ in range(5):
        agent.change_messages(messages)
        message, _, _ = agent.parse(process_id=0, tools=[])
        name, arguments = message["tool_calls"][0]["function"].values()
        if not isinstance(name, ActionName):
            final_answer = final_answer_of(arguments)
            break
        calls.append((str(name), arguments))
        record = RecordName.of_request(CATEGORIES[name.tool_name], name.tool_name, name.api_name)
        found = cache.find(record, parse_tool_input(arguments))
        response = found.answer if found else {"error": "Failed to generate fake response", "response": ""}
        messages = [*messages, message, {"role": "tool", "content": json.dumps(response)}]
    agent.finish_query()
    return judge(str(query.query_id), load_expected(DATA_DIR)[str(query.query_id)], calls, final_answer)


def test_checkpoint_is_at_most_12_megabytes():
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) <= 12_000_000


def test_every_action_is_one_token_with_a_row_in_the_embedding():
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    rows = AutoModelForCausalLM.from_pretrained(MODEL_DIR).get_input_embeddings().weight.shape[0]
    for action in demo_catalog(DATA_DIR).actions:
        ids = tokenizer(action, add_special_tokens=False)["input_ids"]
        assert len(ids) == 1
        assert ids[0] < rows


def test_model_card_states_its_results():
    card = (MODEL_DIR / "README.md").read_text(encoding="utf-8")
    assert "held out" in card
    assert "steps" in card


def test_agent_solves_held_out_queries(agent):
    verdicts = [answer(agent, query) for query in HELD_OUT[::6]]
    assert sum(verdict.solved for verdict in verdicts) >= 0.8 * len(verdicts), [v.problem for v in verdicts]
