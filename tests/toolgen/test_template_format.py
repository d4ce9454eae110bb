"""--template auto: conversations as the tokenizer's own chat template writes them, whatever it accepts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.LLM.toolgen import ToolGen
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.chat_format import Conversation, PromptEncoder, chat_format
from evaluation.toolbench.inference.toolgen.template_format import TemplateFormat, format_for
from tests.helpers.toolgen import (
    TOOL_TOKENS,
    ScriptedEngine,
    build_tiny_tokenizer,
    first_messages,
    write_data_folder,
)

CHATML = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
LLAMA = """{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}
{{- m.content | trim + '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
# As some families do: no system message, roles that alternate, and no token at the beginning of a turn.
STRICT = """{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- ('[INST] ' + m.content + ' [/INST]') if m.role == 'user' else (m.content + '<|im_end|>') }}{% endfor %}"""
NEVER = "{{ raise_exception('not today') }}"


def tokenizer_with(template, style="qwen"):
    tokenizer = build_tiny_tokenizer(TOOL_TOKENS, style)
    tokenizer.chat_template = template
    return tokenizer


def conversation(form, system, turns):
    conv = Conversation(form)
    conv.set_system_message(system)
    for role, text in turns:
        conv.append_message(conv.roles[role], text)
    return conv


TURNS = [(0, "Will it rain?"), (1, "I look."), (0, "Generate the action."), (1, "<<Sky Watch&&Daily Forecast>>")]


def test_a_template_like_one_of_the_two_writes_the_same_text():
    auto, qwen = TemplateFormat(tokenizer_with(CHATML)), chat_format("qwen-7b-chat")
    assert (auto.end_token, auto.turn_token) == ("<|im_end|>", "<|im_start|>")
    for turns in (TURNS, [*TURNS, (1, None)], [*TURNS, (1, "documentation"), (1, None)]):
        assert (
            conversation(auto, "Be brief.", turns).get_prompt() == conversation(qwen, "Be brief.", turns).get_prompt()
        )


def test_the_template_has_all_special_tokens_and_the_tokenizer_adds_none():
    tokenizer = tokenizer_with(LLAMA, "llama-3")
    form = TemplateFormat(tokenizer)
    ids = PromptEncoder(tokenizer, form).encode(conversation(form, "S", [*TURNS, (1, None)]).pieces())
    llama = chat_format("llama-3")
    doubled = PromptEncoder(tokenizer, llama).encode(conversation(llama, "S", [*TURNS, (1, None)]).pieces())
    assert ids == doubled[1:]  # in which the beginning stands twice, as in ToolGen's training
    assert ids.count(tokenizer.bos_token_id) == 1


@given(
    template=st.sampled_from([CHATML, LLAMA, STRICT]),
    texts=st.lists(st.text(max_size=8) | st.sampled_from(["<|im_start|>", " x\n", "\ud83d"]), min_size=1, max_size=4),
)
def test_pieces_are_the_text_and_their_ids_its_ids(template, texts):
    tokenizer = tokenizer_with(template, "llama-3" if template == LLAMA else "qwen")
    form = TemplateFormat(tokenizer)
    conv = conversation(form, "S", [*((i % 2, text) for i, text in enumerate(texts)), (1, None)])
    encoder = PromptEncoder(tokenizer, form)
    assert encoder.encode(conv.pieces()) == encoder.encode_bare(conv.get_prompt())


def test_a_strict_template_gets_what_it_accepts():
    form = TemplateFormat(tokenizer_with(STRICT))
    conv = conversation(form, "Be brief.", [(0, "Hi"), (1, "Ho"), (1, "documentation"), (0, "Go on"), (1, None)])
    assert conv.get_prompt() == "[INST] Be brief.\nHi [/INST]Ho\ndocumentation<|im_end|>[INST] Go on [/INST]"
    assert (form.end_token, form.turn_token) == ("<|im_end|>", "")


def test_a_template_that_refuses_is_quoted_in_one_line():
    tokenizer = tokenizer_with(CHATML)
    form = TemplateFormat(tokenizer)
    tokenizer.chat_template = NEVER
    with pytest.raises(DataError, match="refuses this conversation: not today"):
        conversation(form, "", TURNS).get_prompt()


@pytest.mark.parametrize("template", [NEVER, "{% if %}", "{{ nobody.said.so }}", 5])
def test_a_template_that_writes_nothing_is_one_line_before_anything_runs(template):
    with pytest.raises(DataError, match=r"chat template refuses .*--template") as caught:
        TemplateFormat(tokenizer_with(template))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_template_says_so():
    with pytest.raises(ConfigError, match="no chat template of its own"):
        format_for("auto", tokenizer_with(None))
    assert AgentOptions(template="auto").template == "auto"
    with pytest.raises(ConfigError, match="auto for the tokenizer's own"):
        AgentOptions(template="vicuna")


@pytest.mark.parametrize(
    ("template", "style", "end"), [(CHATML, "qwen", "<|im_end|>"), (LLAMA, "llama-3", "<|eot_id|>")]
)
def test_an_agent_converses_in_the_tokenizers_own_template(tmp_path, template, style, end):
    tokenizer = tokenizer_with(template, style)
    answers = ["I look.", TOOL_TOKENS[1], '{"city": "Paris"}']
    engine = ScriptedEngine(tokenizer, answers, end_token=end, max_length=100_000)
    options = AgentOptions(template="auto", data_dir=write_data_folder(tmp_path / "data"))
    agent = ToolGenAtomic.around(None, tokenizer, engine, options)
    agent.change_messages(first_messages())
    message, code, _ = agent.parse(process_id=0, tools=[])
    assert (code, message["content"]) == (0, "I look.")
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris"}'


def test_codes_of_several_tokens_can_be_restricted_to_and_called(tmp_path):
    """As where every tool is a path of codes, each a token of its own."""
    codes = {
        "daily_forecast_for_sky_watch": "<a_12><b_5>",
        "air_quality_for_sky_watch": "<a_12><b_7>",
        "Finish": "<a_0>",
    }
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    tokenizer = build_tiny_tokenizer(["<a_0>", "<a_12>", "<b_5>", "<b_7>"], "qwen")
    tokenizer.chat_template = CHATML
    engine = ScriptedEngine(tokenizer, ["I look.", "<a_12><b_7>", "{}"], end_token="<|im_end|>", max_length=100_000)
    options = AgentOptions(
        template="auto",
        indexing="Semantic",
        indexing_file=tmp_path / "codes.json",
        data_dir=write_data_folder(tmp_path / "data"),
        restrict_actions="all",
    )
    agent = ToolGen.around(None, tokenizer, engine, options)
    assert agent.indexing == "of a file"
    assert len(agent.language.actions.ids_of("<a_12><b_5>")) == 2
    agent.change_messages(first_messages())
    message, code, _ = agent.parse(process_id=0, tools=[])
    assert code == 0
    assert message["tool_calls"][0]["function"]["name"] == "air_quality_for_sky_watch"
    constraint = engine.requests[1].constraint
    assert constraint is not None
