"""Defects of the published agents that this package does not have, by their number in the list of known ones.

D32 to D36 are those of other programs (a demonstration agent, the training code).
"""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.LLM.toolgen import ToolGen
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.chat_format import PromptEncoder, chat_format
from evaluation.toolbench.names import ActionName
from tests.helpers.toolgen import (
    NAMES,
    SKY_WATCH,
    TOKEN_LINES,
    TOOL_TOKENS,
    TOOLS,
    ScriptedEngine,
    build_tiny_tokenizer,
    first_messages,
    save_tiny_checkpoint,
    scripted_agent,
    shared_tokenizer,
    write_data_folder,
)

ROOT = Path(__file__).resolve().parents[2]
STEP = ["Thinking.", SKY_WATCH, "{}"]
FINISH = ["Done.", "<<Finish>>", '{"return_type": "give_answer"}']


@pytest.fixture
def data_dir(tmp_path):
    return write_data_folder(tmp_path / "data")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Named nothing like a Llama, and with Qwen's tokens."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "mine", TOOL_TOKENS, "qwen")


def step(agent, **how):
    """One step after the question."""
    agent.change_messages(first_messages())
    return agent.parse(**{"tools": {NAMES[0]: {}}, "process_id": 1, **how})


def call_of(reply):
    function = reply[0]["tool_calls"][0]["function"]
    return function["name"], function["arguments"]


def exactly(*ids):
    """A scripted answer of these tokens and no end token."""
    return lambda request: ids


def ids_of(text, style="llama-3"):
    return shared_tokenizer(style)(text, add_special_tokens=False)["input_ids"]


def test_d1_inputs_go_where_the_model_is(checkpoint, data_dir):
    agent = ToolGenAtomic(str(checkpoint), "qwen-7b-chat", device="cpu", data_dir=data_dir, max_new_tokens=2)
    _, code, tokens = step(agent)
    assert agent.model.hf_device_map == {"": "cpu"}
    assert (code, tokens > 0, agent.use_gpu) == (0, True, False)
    agent.engine.close()


@pytest.mark.parametrize("indexing", ["Atomic", "Semantic", "Numeric", "Hierarchical"])
def test_d2_every_indexing_can_be_restricted_to_the_querys_own_tools(data_dir, indexing):
    agent, engine = scripted_agent(data_dir, ["Thinking.", "unread", "{}"], indexing=indexing)
    own = agent.toolbench_name_to_token[NAMES[1]]
    engine.answers[1] = own
    reply = step(agent, tools={NAMES[1]: {}}, restrict_actions=True, restrict_to_ground_truth_tools=True)
    assert call_of(reply)[0] == NAMES[1]
    constraint = engine.requests[1].constraint
    ids = [agent.language.actions.ids_of(action) for action in (own, agent.language.catalog.finish)]
    if indexing == "Atomic":
        assert constraint.ids.tolist() == sorted(token_id for (token_id,) in ids)
    else:
        assert sorted(constraint.allowed(TokenTrie.ROOT)) == sorted({sequence[0] for sequence in ids})


def test_d3_a_restricted_action_is_one_token(data_dir):
    agent, engine = scripted_agent(data_dir, STEP)
    step(agent, restrict_actions=True, restrict_to_ground_truth_tools=True)
    assert engine.requests[1].max_new_tokens == 1


def test_d4_only_an_end_token_is_dropped(data_dir):
    cut_off = ids_of('{"city": "Par')
    agent, _ = scripted_agent(data_dir, ["Thinking.", SKY_WATCH, exactly(*cut_off)])
    assert call_of(step(agent))[1] == '{"city": "Par'


def test_d5_the_trained_layout_asks_in_the_same_words_live_and_in_history(data_dir):
    agent, engine = scripted_agent(data_dir, STEP * 2, prompt_layout="trained")
    message, _, _ = step(agent)
    agent.add_message(message)
    agent.parse(tools={}, process_id=1)
    assert engine.prompts()[3].startswith(engine.prompts()[2])


@pytest.mark.parametrize(("template", "style"), [("llama-3", "llama-3"), ("qwen-7b-chat", "qwen")])
def test_d6_allowed_ids_are_looked_up_in_the_tokenizer(data_dir, template, style):
    agent, _ = scripted_agent(data_dir, [], template=template)
    tokens = shared_tokenizer(style).convert_ids_to_tokens(agent.allowed_action_ids)
    assert sorted(tokens) == sorted(TOOL_TOKENS)


def test_d7_the_default_template_needs_no_fastchat():
    assert chat_format(ToolGenAtomic.__init__.__defaults__[0]).name == "llama-3"
    assert "fastchat" not in sys.modules


def test_d8_the_tokenizer_is_the_checkpoints_whatever_its_path_is_called(checkpoint, data_dir):
    agent = ToolGen(str(checkpoint), "qwen-7b-chat", "Numeric", device="cpu", data_dir=data_dir)
    assert agent.tokenizer.get_vocab() == shared_tokenizer("qwen").get_vocab()
    agent.engine.close()


@pytest.mark.parametrize("indexing", ["Atomic", "Semantic"])
def test_d9_a_turn_of_qwen_ends_with_its_own_token(data_dir, indexing):
    agent, engine = scripted_agent(data_dir, ["Hm."] * 3, indexing=indexing, template="qwen-7b-chat")
    step(agent)
    im_end = shared_tokenizer("qwen").convert_tokens_to_ids("<|im_end|>")
    assert engine.requests[0].stop_ids.ids.tolist() == [im_end]


def test_d10_the_temperature_is_used(data_dir):
    agent, engine = scripted_agent(data_dir, STEP)
    step(agent, temperature=0.7)
    assert {request.sampling.temperature for request in engine.requests} == {0.7}


@pytest.mark.parametrize("names", [["unknown_for_nobody", NAMES[0]], [NAMES[0], "unknown_for_nobody"]])
def test_d11_an_unknown_tool_of_the_query_is_left_out(data_dir, names):
    agent, _ = scripted_agent(data_dir, STEP)
    known = [agent.language.actions.ids_of(action)[0] for action in (SKY_WATCH, "<<Finish>>")]
    assert agent.get_token_ids_by_actions(names) == known
    assert call_of(step(agent, tools=names))[0] == NAMES[0]


def test_d12_apis_that_share_a_name_keep_their_own_documentation(tmp_path):
    long = "a very long name of an API that two tools of the same publisher share"
    tools = [
        {
            "tool_name": f"{which} of the tool whose name is cut off at the beginning, being longer than the limit",
            "api_list": [{"name": long, "description": f"The {which}."}],
        }
        for which in ("First", "Second")
    ]
    tokens = [f"<<{tool['tool_name']}&&{long}>>" for tool in tools]
    data_dir = write_data_folder(tmp_path / "data", tools=tools, token_lines=["<<Finish>>", *tokens], names=[])
    tokenizer = build_tiny_tokenizer(["<<Finish>>", *tokens])
    engine = ScriptedEngine(tokenizer, ["One.", tokens[0], "{}", "Two.", tokens[1], "{}"])
    agent = ToolGenAtomic.around(None, tokenizer, engine, AgentOptions(data_dir=data_dir))
    first = step(agent)[0]
    agent.add_message(first)
    second = agent.parse(tools={}, process_id=0)[0]
    names = [message["tool_calls"][0]["function"]["name"] for message in (first, second)]
    assert names[0] == names[1]
    assert [name.tool_name for name in names] == [tool["tool_name"] for tool in tools]
    assert f"{tokens[0]}<|eot_id|>" in engine.prompts()[3]
    assert "'description': 'The First.'" in engine.prompts()[3]


def test_d13_history_with_names_and_messages_that_no_table_has_is_read(tmp_path):
    undocumented = "<<Old Tool&&Gone>>"
    data_dir = write_data_folder(tmp_path / "data", token_lines=[*TOKEN_LINES, undocumented])
    tokenizer = build_tiny_tokenizer([*TOOL_TOKENS, undocumented])
    engine = ScriptedEngine(tokenizer, ["Thinking.", undocumented, *STEP])
    agent = ToolGenAtomic.around(None, tokenizer, engine, AgentOptions(data_dir=data_dir))
    reply = step(agent)
    assert call_of(reply) == ("gone_for_old_tool", "{}")
    agent.add_message(reply[0])
    agent.add_message({"role": "assistant", "content": "No call here."})
    unknown = {"name": "never_heard_of_for_anything", "arguments": "{}"}
    agent.add_message({"role": "assistant", "content": "Or.", "tool_calls": [{"function": unknown}]})
    assert call_of(agent.parse(tools={}, process_id=0))[0] == NAMES[0]
    prompt = engine.prompts()[-1]
    assert f"{undocumented}<|eot_id|>" in prompt
    assert "No call here.<|eot_id|>" in prompt
    assert "Invalid Action<|eot_id|>" in prompt


def test_d14_arguments_that_differ_by_blanks_are_the_same_call(data_dir):
    agent, _ = scripted_agent(data_dir, [*STEP, "Again.", SKY_WATCH, "{} \n", *FINISH])
    step(agent)
    reply = agent.parse(tools={}, process_id=0, do_retry=True, retry_action=True)
    assert call_of(reply)[0] == "Finish"
    assert agent.logs["actions"] == {NAMES[0]: ["{}"]}


def test_d15_retries_are_counted_when_they_happen_and_per_query(data_dir):
    give_up = ["No.", "<<Finish>>", '{"return_type": "give_up_and_restart"}']
    agent, _ = scripted_agent(data_dir, [*give_up, *give_up, *FINISH])
    step(agent)
    assert agent.logs["retry_times"]["give_up"] == 0
    step(agent, do_retry=True)
    assert agent.logs["retry_times"]["give_up"] == 1
    agent.initialize()
    assert agent.logs == {"retry_times": {"actions": 0, "give_up": 0, "sorry": 0}, "actions": {}}


def test_d16_siblings_share_no_state(data_dir):
    agent, _ = scripted_agent(data_dir, STEP)
    assert agent.conversation_history == []
    one, other = agent.for_query("1"), agent.for_query("2")
    step(one)
    assert other.conversation_history == agent.conversation_history == []
    assert other.logs["actions"] == agent.logs["actions"] == {}
    with ThreadPoolExecutor(4) as threads:
        siblings = list(threads.map(lambda query: agent.for_query(str(query)), range(32)))
    assert len({sibling._progress.conversation_id for sibling in siblings}) == 32


@pytest.mark.parametrize("limits", [{"max_length": 200}, {"max_sequence_length": 200}])
def test_d17_a_conversation_beyond_the_context_ends_its_path(data_dir, limits):
    agent, engine = scripted_agent(data_dir, [], **limits)
    message, code, tokens = step(agent)
    assert (message["tool_calls"], code, tokens, engine.requests) == (None, 1, 0, [])


def test_d17_a_generation_ends_where_the_context_does(data_dir):
    agent, engine = scripted_agent(data_dir, ["Thinking."])
    agent.change_messages(first_messages())
    agent.parse(functions=[], function_call="none", process_id=0)
    used = len(engine.requests[0].prompt_ids)
    agent, engine = scripted_agent(data_dir, ["Thinking."], max_sequence_length=used + 7)
    agent.change_messages(first_messages())
    agent.parse(functions=[], function_call="none", process_id=0)
    assert engine.requests[0].max_new_tokens == 7


def test_d18_the_engine_is_told_which_prompts_belong_together(data_dir):
    agent, engine = scripted_agent(data_dir, STEP * 3)
    one, other = agent.for_query("1"), agent.for_query("1")
    step(one)
    step(other)
    ids = [request.conversation_id for request in engine.requests]
    assert len(set(ids[:3])) == len(set(ids[3:])) == 1
    assert ids[0] != ids[3]
    one.finish_query()
    assert engine.ended == [ids[0]]


@pytest.mark.parametrize(("restriction", "num_allowed"), [("all", 4), ("truth", 2)])
def test_d19_actions_can_be_restricted_once_for_all_steps(data_dir, restriction, num_allowed):
    agent, engine = scripted_agent(data_dir, STEP, restrict_actions=restriction)
    step(agent)
    assert [request.constraint is not None for request in engine.requests] == [False, True, False]
    assert len(engine.requests[1].constraint) == num_allowed


def test_d20_acting_ends_with_the_first_tool_token(data_dir):
    token_id = shared_tokenizer().convert_tokens_to_ids(SKY_WATCH)
    agent, engine = scripted_agent(data_dir, ["Thinking.", exactly(token_id), "{}"])
    assert call_of(step(agent))[0] == NAMES[0]
    assert token_id in engine.requests[1].stop_ids
    assert token_id not in engine.requests[0].stop_ids


def test_d20_a_restricted_action_cannot_be_empty(data_dir):
    agent, engine = scripted_agent(data_dir, STEP, restrict_actions="all")
    step(agent)
    assert agent.language.actions.end_id not in engine.requests[1].constraint


def test_d21_blanks_around_an_action_do_not_matter(data_dir):
    agent, _ = scripted_agent(data_dir, ["Thinking.", f" {SKY_WATCH}\n", "{}"])
    assert call_of(step(agent))[0] == NAMES[0]


def test_d21_an_invented_action_keeps_its_blanks(data_dir):
    """The call is answered with its name, which the model reads."""
    agent, _ = scripted_agent(data_dir, ["Thinking.", " <<Coffee Shop&&Search>>\n"])
    assert call_of(step(agent)) == (" <<Coffee Shop&&Search>>\n", "{}")


def test_d22_an_api_name_may_contain_the_separator(tmp_path):
    api = "Cut && Join"
    tools = [{"tool_name": "Film", "api_list": [{"name": api, "description": "Edits."}]}]
    token = f"<<Film&&{api}>>"
    data_dir = write_data_folder(tmp_path / "data", tools=tools, token_lines=["<<Finish>>", token], names=[])
    tokenizer = build_tiny_tokenizer(["<<Finish>>", token])
    engine = ScriptedEngine(tokenizer, ["Thinking.", token, "{}"])
    agent = ToolGenAtomic.around(None, tokenizer, engine, AgentOptions(data_dir=data_dir))
    assert call_of(step(agent)) == ("cut_join_for_film", "{}")


def test_d23_actions_of_several_tokens_are_shown_whole(data_dir):
    agent, engine = scripted_agent(data_dir, ["Thinking.", "find cafe", "{}"], indexing="Semantic")
    step(agent, tools={NAMES[2]: {}}, add_retrieval=True, add_relevant_tokens=True, add_planning_prefix=True)
    prompt = engine.prompts()[0]
    assert "find cafeFinish<|eot_id|>" in prompt
    assert prompt.count("['find cafe', 'Finish']") == 2
    assert agent.get_token_ids_by_actions([NAMES[2]]) == [ids_of("find cafe"), ids_of("Finish")]


def test_d24_relevant_actions_are_asked_for_with_the_whole_prompt_and_kept(data_dir):
    agent, engine = scripted_agent(data_dir, ["sky watch daily"], indexing="Semantic")
    agent.change_messages(first_messages())
    turns = agent.convert_conversation_history_to_gpt_format([], add_retrieval=True)
    assert agent.get_relevant_actions(turns) == agent.retrieved_actions == ["sky watch daily"]
    assert "{finish}" not in engine.prompts()[0]
    assert "Please generate relevant actions.<|eot_id|>" in engine.prompts()[0]


@pytest.mark.parametrize(("how", "answers"), [({"planning": False}, []), ({}, [""])])
def test_d25_no_thought_leaves_no_empty_turn(data_dir, how, answers):
    agent, engine = scripted_agent(data_dir, [*answers, SKY_WATCH, "{}"])
    step(agent, **how)
    acting = engine.prompts()[len(answers)]
    assert acting.endswith(
        "Begin!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nGenerate the action.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert acting.count("<|start_header_id|>assistant") == 1


def test_d26_tool_messages_can_be_displayed(data_dir, capsys):
    agent, _ = scripted_agent(data_dir, STEP)
    message, _, _ = step(agent)
    agent.add_message(message)
    agent.add_message({"role": "tool", "name": NAMES[0], "content": "sunny"})
    agent.display_conversation(detailed=True)
    printed = capsys.readouterr().out
    assert "tool: sunny" in printed
    assert NAMES[0] in printed


def test_d27_data_is_read_as_utf8_from_any_folder(data_dir, tmp_path):
    script = (
        "import sys; from evaluation.toolbench.inference.toolgen.catalog import load_catalog\n"
        "catalog = load_catalog(sys.argv[1], 'Atomic', 'Ends.')\n"
        "assert '<<Cafe Finder&&Find Cafe>>' in catalog.documentation"
    )
    # In the C locale without UTF-8 mode, open() means ASCII unless told otherwise.
    environment = {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", script, str(data_dir)]
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 0


def test_d28_every_generated_token_is_counted(data_dir):
    agent, _ = scripted_agent(data_dir, STEP)
    _, _, tokens = step(agent)
    assert tokens == sum(len(ids_of(text)) + 1 for text in STEP)  # each with its end token


def test_d29_blanks_before_signs_in_tool_tokens_survive_decoding():
    token = "<<Facts , quotes .&&Today ?>>"
    tokenizer = build_tiny_tokenizer([token])
    tokenizer.clean_up_tokenization_spaces = True
    encoder = PromptEncoder(tokenizer, chat_format("llama-3"))
    assert encoder.decode(encoder.encode_bare(token)) == token


def test_d30_a_step_prints_and_warns_nothing(checkpoint, data_dir, capsys):
    agent = ToolGenAtomic(str(checkpoint), "qwen-7b-chat", device="cpu", data_dir=data_dir, max_new_tokens=2)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(agent, process_id=0)
    assert capsys.readouterr() == ("", "")
    agent.engine.close()


@pytest.mark.parametrize(("options", "kind"), [({}, TokenSet), ({"indexing": "Numeric"}, TokenTrie)])
def test_d31_a_constraint_is_made_once_and_shared_by_all_conversations(data_dir, options, kind):
    agent, engine = scripted_agent(data_dir, [], restrict_actions="all", **options)
    engine.answers += ["Thinking.", agent.toolbench_name_to_token[NAMES[0]], "{}"] * 3
    for query in range(3):
        step(agent.for_query(str(query)))
    assert isinstance(engine.requests[1].constraint, kind)
    assert len({id(request.constraint) for request in engine.requests[1::3]}) == 1


def test_a_name_given_by_its_api_is_restricted_to_that_api(data_dir):
    agent, engine = scripted_agent(data_dir, STEP, restrict_actions="truth")
    step(agent, tools={ActionName.of(TOOLS[0]["tool_name"], "Daily Forecast"): {}})
    allowed = shared_tokenizer().convert_ids_to_tokens(engine.requests[1].constraint.ids.tolist())
    assert sorted(allowed) == ["<<Finish>>", SKY_WATCH]
