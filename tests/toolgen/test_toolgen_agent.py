import copy
import json

import pytest

from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.errors import ConfigError, DataError, EngineError
from evaluation.toolbench.inference.LLM.toolgen import ToolGen
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.generation import draw_seed
from evaluation.toolbench.names import ActionName
from tests.helpers.toolgen import (
    NAMES,
    SKY_WATCH,
    TOOL_TOKENS,
    TOOLS,
    ScriptedEngine,
    build_tiny_tokenizer,
    first_messages,
    save_tiny_checkpoint,
    scripted_agent,
    shared_tokenizer,
    tiny_llama,
    write_data_folder,
)

STEP = ["I look it up.", SKY_WATCH, '{"city": "Paris"}']
GIVE_UP = ["No.", "<<Finish>>", '{"return_type": "give_up_and_restart"}']
SORRY = ["No.", "<<Finish>>", '{"final_answer": "I apologize."}']
ANSWER = ["Done.", "<<Finish>>", '{"final_answer": "Sunny."}']


@pytest.fixture
def data_dir(tmp_path):
    return write_data_folder(tmp_path / "data")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny", TOOL_TOKENS)


def step(agent, **how):
    agent.change_messages(first_messages())
    return agent.parse(**{"tools": {NAMES[0]: {}}, "process_id": 1, **how})


def test_a_step_is_one_openai_message_with_one_call(data_dir):
    agent, _ = scripted_agent(data_dir, STEP)
    message, code, _ = step(agent)
    assert (list(message), code) == (["role", "content", "function_call", "tool_calls"], 0)
    assert message == {
        "role": "assistant",
        "content": "I look it up.",
        "function_call": None,
        "tool_calls": [
            {"id": None, "type": "function", "function": {"name": NAMES[0], "arguments": '{"city": "Paris"}'}}
        ],
    }


@pytest.mark.parametrize(("indexing", "own"), [({}, "allowed_action_ids"), ({"indexing": "Numeric"}, "trie")])
def test_the_attributes_of_toolgens_agents_are_there(data_dir, indexing, own):
    agent, _ = scripted_agent(data_dir, ["Done.", "none of them"], **indexing)
    after_construction = (
        *("model_name", "template", "max_sequence_length", "tokenizer", "model", "use_gpu", "chatio", "logs", own),
        *("tool_documentation", "token_to_toolbench_name", "toolbench_name_to_token"),
        *("retrieved_actions", "relevant_actions_documentations"),
    )
    assert [name for name in after_construction if not hasattr(agent, name)] == []
    step(agent)
    assert [name for name in ("conversation_history", "relevant_actions", "time") if not hasattr(agent, name)] == []
    assert agent.relevant_actions == agent.get_token_ids_by_actions([NAMES[0]])


def test_the_called_name_remembers_its_api_and_is_written_as_text(data_dir):
    agent, _ = scripted_agent(data_dir, STEP)
    message = copy.deepcopy(step(agent)[0])
    name = message["tool_calls"][0]["function"]["name"]
    assert isinstance(name, ActionName)
    assert (name.tool_name, name.api_name) == ("Sky Watch", "Daily Forecast")
    assert f'"name": "{NAMES[0]}"' in json.dumps(message)


@pytest.mark.parametrize("action", ["<<Coffee Shop&&Search>>", "", f"I use {SKY_WATCH}"])
def test_an_unknown_action_is_passed_on_as_it_is_without_asking_for_arguments(data_dir, action):
    agent, engine = scripted_agent(data_dir, ["Coffee.", action])
    message, code, _ = step(agent)
    assert message["tool_calls"][0]["function"] == {"name": action, "arguments": "{}"}
    assert (code, len(engine.requests)) == (0, 2)


def test_an_api_without_a_token_is_documented_when_a_model_spells_it_out(tmp_path):
    tools = [*TOOLS, {"tool_name": "New", "api_list": [{"name": "Thing", "description": "Does a thing."}]}]
    agent, engine = scripted_agent(
        write_data_folder(tmp_path / "data", tools=tools), ["Hm.", "<<New&&Thing>>", '{"a": 1}']
    )
    message, _, _ = step(agent)
    assert "{'name': '<<New&&Thing>>', 'description': 'Does a thing.'" in engine.prompts()[2]
    assert message["tool_calls"][0]["function"] == {"name": "<<New&&Thing>>", "arguments": '{"a": 1}'}
    assert agent.logs["actions"] == {"<<New&&Thing>>": ['{"a": 1}']}
    assert "<<New&&Thing>>" not in agent.token_to_toolbench_name


@pytest.mark.parametrize(("template", "end"), [("llama-3", "<|eot_id|>"), ("qwen-7b-chat", "<|im_end|>")])
def test_the_tokenizers_end_of_text_is_the_templates_end_of_turn(data_dir, template, end):
    tokenizer = build_tiny_tokenizer(TOOL_TOKENS, "qwen" if end == "<|im_end|>" else "llama-3")
    plain = tokenizer("a text")["input_ids"]
    options = AgentOptions(data_dir=data_dir, template=template)
    agent = ToolGenAtomic.around(None, tokenizer, ScriptedEngine(tokenizer, []), options)
    assert agent.tokenizer.eos_token == end
    assert agent.tokenizer.eos_token_id == agent.language.actions.end_id
    assert agent.tokenizer("a text")["input_ids"] == plain


def test_calls_are_logged_by_toolbench_name(data_dir):
    agent, _ = scripted_agent(data_dir, STEP)
    step(agent)
    assert agent.logs["actions"] == {NAMES[0]: ['{"city": "Paris"}']}
    assert type(next(iter(agent.logs["actions"]))) is str


def test_generated_texts_are_not_trimmed(data_dir):
    agent, _ = scripted_agent(data_dir, ["\n I think. ", SKY_WATCH, ' {"city":\n "Paris"} '])
    message, _, _ = step(agent)
    assert message["content"] == "\n I think. "
    assert message["tool_calls"][0]["function"]["arguments"] == ' {"city":\n "Paris"} '


def test_without_planning_there_is_no_thought(data_dir):
    agent, engine = scripted_agent(data_dir, STEP[1:])
    message, _, _ = step(agent, planning=False)
    assert (message["content"], len(engine.requests)) == (None, 2)
    with pytest.raises(ValueError, match="planning"):
        step(agent, planning=False, add_planning_prefix=True)


def test_by_default_all_is_greedy_unrestricted_and_one_attempt(data_dir):
    agent, engine = scripted_agent(data_dir, GIVE_UP)
    step(agent)
    assert [(r.sampling.temperature, r.constraint, r.max_new_tokens) for r in engine.requests] == [(0.0, None, 512)] * 3


def test_thought_and_arguments_are_never_restricted(data_dir):
    agent, engine = scripted_agent(data_dir, STEP, restrict_actions="all")
    step(agent)
    assert [request.constraint is None for request in engine.requests] == [True, False, True]


def test_restrictions_asked_for_in_a_step_go_before_the_agents_own(data_dir):
    agent, engine = scripted_agent(data_dir, STEP * 2, restrict_actions="off")
    step(agent, restrict_actions=True)
    step(agent, restrict_to_ground_truth_tools=True)
    assert [len(engine.requests[i].constraint) for i in (1, 4)] == [4, 2]


def test_a_query_without_a_known_tool_cannot_be_restricted_to_its_own(data_dir):
    agent, _ = scripted_agent(data_dir, STEP, restrict_actions="truth")
    with pytest.raises(DataError, match=r"none of its 1 is in the catalog of 4 actions \(the first is nothing_here\)"):
        step(agent, tools={"nothing_here": {}})


@pytest.mark.parametrize("first", [GIVE_UP, SORRY])
def test_give_ups_and_apologies_are_tried_again_and_ever_warmer(data_dir, first):
    agent, engine = scripted_agent(data_dir, [*first, *first, *ANSWER])
    message, _, tokens = step(agent, do_retry=True)
    assert "Sunny" in message["tool_calls"][0]["function"]["arguments"]
    assert [request.sampling.temperature for request in engine.requests[::3]] == [0.0, 0.6, 1.0]
    assert sum(agent.logs["retry_times"].values()) == 2
    assert len({tuple(request.prompt_ids) for request in engine.requests[::3]}) == 1
    count = sum(len(shared_tokenizer()(text, add_special_tokens=False)["input_ids"]) + 1 for text in first)
    assert tokens > 2 * count  # the attempts that were thrown away were generated too


def test_the_fifth_attempt_is_kept_whatever_it_is(data_dir):
    agent, engine = scripted_agent(data_dir, GIVE_UP * 5)
    message, code, _ = step(agent, do_retry=True)
    assert message["tool_calls"][0]["function"]["name"] == "Finish"
    assert (code, len(engine.requests), agent.logs["retry_times"]["give_up"]) == (0, 15, 4)


def test_draws_depend_on_the_query_and_the_place_in_it_alone(data_dir):
    def seeds(query_id, seed=42):
        agent, engine = scripted_agent(data_dir, [*GIVE_UP, *STEP, *STEP], seed=seed)
        agent = agent.for_query(query_id)
        step(agent, do_retry=True)
        step(agent)
        return [request.sampling.seed for request in engine.requests]

    assert seeds("7") == seeds("7")
    assert len({*seeds("7"), *seeds("8"), *seeds("7", seed=43)}) == 27


def test_seeds_are_the_same_in_every_process_and_release():
    assert draw_seed(42, "1073", 1, "planning", 0) == 9585702866025572950


def test_initialize_starts_a_query_over(data_dir):
    agent, engine = scripted_agent(data_dir, STEP * 2)
    step(agent)
    agent.initialize()
    assert agent.logs["actions"] == {}
    step(agent)
    assert engine.requests[0].sampling.seed == engine.requests[3].sampling.seed


def test_change_messages_keeps_the_list_itself(data_dir):
    agent, _ = scripted_agent(data_dir, [])
    messages = first_messages()
    agent.change_messages(messages)
    agent.add_message({"role": "user", "content": "And?"})
    assert agent.conversation_history is messages
    assert len(messages) == 3


def test_a_context_that_fills_up_keeps_the_thought_and_calls_nothing(data_dir):
    agent, engine = scripted_agent(data_dir, STEP)
    step(agent)
    room = len(engine.requests[0].prompt_ids) + 40
    agent, engine = scripted_agent(data_dir, ["A long thought. " * 10, *STEP[1:]], max_length=room)
    message, code, tokens = step(agent)
    assert (message["content"], message["tool_calls"], code) == ("A long thought. " * 10, None, 1)
    assert (len(engine.requests), tokens > 0) == (1, True)


def test_a_plain_reply_that_does_not_fit_is_an_error_code_too(data_dir):
    agent, _ = scripted_agent(data_dir, [], max_length=10)
    message, code, _ = step(agent, function_call="none")
    assert (message["content"], code) == (None, 1)


def test_an_action_without_room_for_the_longest_one_is_not_begun(data_dir):
    numeric = {"indexing": "Numeric", "restrict_actions": "all"}
    answers = [STEP[0], "0 0 0 0 0", "{}"]
    agent, engine = scripted_agent(data_dir, answers, **numeric)
    step(agent)
    enough = len(engine.requests[1].prompt_ids) + engine.requests[1].max_new_tokens
    for max_length, num_requests in ((enough, 2), (enough - 1, 1)):
        agent, engine = scripted_agent(data_dir, answers, max_length=max_length, **numeric)
        assert step(agent)[1] == 1
        assert len(engine.requests) == num_requests


def test_any_text_can_be_continued(data_dir):
    agent, engine = scripted_agent(data_dir, ["and so on", SKY_WATCH, SKY_WATCH])
    result = agent.generate("Once", do_sample=False, temperature=0.6)
    assert result["generated_text"] == "and so on"
    assert result["output_ids"].tolist() == shared_tokenizer()("and so on", add_special_tokens=False)["input_ids"]
    assert engine.requests[0].sampling.temperature == 0.0
    assert list(engine.requests[0].prompt_ids) == shared_tokenizer()("Once")["input_ids"]
    agent.generate("Once", do_sample=True, restrict_actions=True)
    assert (engine.requests[1].sampling.temperature, len(engine.requests[1].constraint)) == (0.6, 4)
    ids = agent.get_token_ids_by_actions([NAMES[0]])
    agent.generate("Once", do_sample=True, restrict_actions=True, allowed_action_ids=ids)
    assert sorted(ids) == engine.requests[2].constraint.ids.tolist()


def test_prompts_are_printed_on_request_by_the_first_process_only(data_dir, capsys):
    agent, _ = scripted_agent(data_dir, STEP * 2)
    step(agent, print_prompt=True, process_id=1)
    assert capsys.readouterr().out == ""
    step(agent, print_prompt=True, process_id=0)
    assert SKY_WATCH in capsys.readouterr().out


@pytest.mark.parametrize("agent_class", [ToolGen, ToolGenAtomic])
def test_a_loaded_agent_shows_its_device_map_and_steps(agent_class, checkpoint, data_dir, caplog):
    how = {"indexing": "Numeric"} if agent_class is ToolGen else {}
    agent = agent_class(str(checkpoint), device="cpu", data_dir=data_dir, max_new_tokens=3, **how)
    assert agent.model.hf_device_map == {"": "cpu"}
    assert [r.levelname for r in caplog.records if "--system_prompt_file" in r.message] == ["WARNING"]
    _, code, tokens = step(agent.for_query("1"))
    assert (code, tokens > 0) == (0, True)
    agent.engine.close()


def test_agents_around_one_model_answer_as_a_loaded_one(checkpoint, data_dir):
    loaded = ToolGenAtomic(str(checkpoint), device="cpu", data_dir=data_dir, max_new_tokens=5, restrict_actions="all")
    options = AgentOptions(data_dir=data_dir, max_new_tokens=5, restrict_actions="all")
    around = ToolGenAtomic.around(loaded.model, loaded.tokenizer, loaded.engine, options)
    assert step(around) == step(loaded)
    loaded.engine.close()


def test_multi_token_actions_are_held_by_a_trie(data_dir):
    agent, _ = scripted_agent(data_dir, [], indexing="Hierarchical")
    longest = max(len(agent.language.actions.ids_of(action)) for action in ("0 1", "0 1 2", "3", "9 9 9 9 3"))
    assert agent.trie.max_depth == longest


def test_an_error_of_the_engine_is_the_callers(data_dir):
    def fails(request):
        raise EngineError("out of pages")

    agent, _ = scripted_agent(data_dir, [fails])
    with pytest.raises(EngineError, match="out of pages"):
        step(agent)


BAD_OPTIONS = {
    "template": ("vicuna", "unknown template 'vicuna': use llama-3 or qwen-7b-chat"),
    "indexing": ("Atom", "unknown indexing 'Atom': use Atomic, Semantic, Numeric, Hierarchical"),
    "prompt_layout": ("old", "unknown prompt layout 'old': use upstream or trained"),
    "restrict_actions": ("some", "unknown restrict_actions 'some': use one of off, all, truth"),
    "max_new_tokens": (0, "max_new_tokens must be at least 1, not 0"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_an_unknown_option_is_refused_before_anything_is_read(name):
    value, message = BAD_OPTIONS[name]
    with pytest.raises(ConfigError, match=message):
        ToolGen("/nowhere/at/all", **{name: value})


def test_no_such_model_folder(data_dir, tmp_path):
    with pytest.raises(DataError, match=f"no model folder at {tmp_path}/nothing"):
        ToolGenAtomic(f"{tmp_path}/nothing", data_dir=data_dir)


def test_no_such_data_folder(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match=f"no data folder at {tmp_path}/nothing"):
        ToolGenAtomic(str(checkpoint), data_dir=tmp_path / "nothing")


def test_a_checkpoint_without_a_tokenizer(data_dir, tmp_path):
    tiny_llama(64).save_pretrained(tmp_path / "bare")
    with pytest.raises(DataError, match=r"no tokenizer in .*bare, nor in the folder above"):
        ToolGenAtomic(str(tmp_path / "bare"), data_dir=data_dir)


def test_a_tokenizer_without_the_tool_tokens(data_dir, tmp_path):
    plain = save_tiny_checkpoint(tmp_path / "plain", TOOL_TOKENS[:1])
    with pytest.raises(DataError, match=f"lacks 3 of the 4 tool tokens, the first is {SKY_WATCH}"):
        ToolGenAtomic(str(plain), data_dir=data_dir)


def test_a_tool_token_beyond_the_embedding(data_dir, tmp_path):
    rows = len(shared_tokenizer()) - 2
    small = save_tiny_checkpoint(tmp_path / "small", TOOL_TOKENS, vocab_size=rows)
    with pytest.raises(DataError, match=f"has id {rows + 1} but the model's embedding has {rows} rows"):
        ToolGenAtomic(str(small), data_dir=data_dir)
    engine = ScriptedEngine(shared_tokenizer(), [])
    engine.vocab_size = rows
    with pytest.raises(DataError, match=f"has {rows} rows"):
        ToolGenAtomic.around(None, shared_tokenizer(), engine, AgentOptions(data_dir=data_dir))


def test_a_template_that_the_tokenizer_does_not_speak(data_dir):
    tokenizer = build_tiny_tokenizer(TOOL_TOKENS, "qwen")
    with pytest.raises(DataError, match=r"has no token <\|eot_id\|>, which ends a turn in the template 'llama-3'"):
        ToolGenAtomic.around(None, tokenizer, ScriptedEngine(tokenizer, []), AgentOptions(data_dir=data_dir))


def test_an_unknown_engine(checkpoint, data_dir):
    with pytest.raises(ConfigError, match="unknown engine 'fast'"):
        ToolGenAtomic(str(checkpoint), device="cpu", data_dir=data_dir, engine="fast")


def test_a_generate_engine_and_an_agent_agree_on_the_context(data_dir):
    model = tiny_llama(len(shared_tokenizer()), max_position_embeddings=64)
    engine = GenerateEngine(model)
    agent = ToolGenAtomic.around(model, shared_tokenizer(), engine, AgentOptions(data_dir=data_dir))
    assert step(agent)[1] == 1
    engine.close()
