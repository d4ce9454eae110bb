import pytest

from evaluation.toolbench.inference.toolgen.catalog import load_catalog
from evaluation.toolbench.inference.toolgen.chat_format import chat_format
from evaluation.toolbench.inference.toolgen.prompts import prompt_layout
from evaluation.toolbench.inference.toolgen.turns import (
    conversation_of,
    documentation_text,
    history_turns,
    plain_turns,
)
from tests.helpers.toolgen import NAMES, SKY_WATCH, write_data_folder


@pytest.fixture
def catalog(tmp_path):
    return load_catalog(write_data_folder(tmp_path / "data"), "Atomic", "Ends.")


def calling(name, thought=None, arguments="{}"):
    call = {"id": None, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": thought, "function_call": None, "tool_calls": [call]}


def texts(messages, catalog, layout="upstream"):
    turns = history_turns(messages, catalog, prompt_layout(layout), system_prompt="S")
    return [(turn["role"], turn["content"]) for turn in turns]


def test_a_system_message_stands_for_the_agents_own(catalog):
    assert texts([{"role": "system", "content": "anything"}], catalog) == [("system", "S")]


@pytest.mark.parametrize("role", ["user", "tool", "function"])
def test_what_is_not_the_models_is_the_users(catalog, role):
    assert texts([{"role": role, "name": "x", "content": "C"}], catalog) == [("user", "C")]


@pytest.mark.parametrize(
    ("layout", "hint"), [("upstream", "Please generate the action."), ("trained", "Generate the action.")]
)
def test_a_step_is_five_turns(catalog, layout, hint):
    assert texts([calling(NAMES[0], "T", "A")], catalog, layout) == [
        ("assistant", "T"),
        ("user", hint),
        ("assistant", SKY_WATCH),
        ("user", documentation_text(SKY_WATCH, catalog)),
        ("assistant", "A"),
    ]


@pytest.mark.parametrize(("layout", "roles"), [("upstream", "aua"), ("trained", "uaua")])
def test_a_step_without_a_thought_is_hinted_at_as_it_was_live(catalog, layout, roles):
    assert "".join(role[0] for role, _ in texts([calling(NAMES[0])], catalog, layout)) == roles


def test_a_step_that_ended_without_a_call_is_its_thought(catalog):
    message = {"role": "assistant", "content": "T", "function_call": None, "tool_calls": None}
    assert texts([message], catalog) == [("assistant", "T")]


def test_an_unknown_role_is_refused(catalog):
    with pytest.raises(ValueError, match="message 0 has the role 'critic'"):
        texts([{"role": "critic", "content": ""}], catalog)


def test_turns_without_a_word_of_the_model_are_left_out():
    turns = [
        {"role": "system", "content": "S"},
        {"role": "assistant", "content": " \n"},
        {"role": "user", "content": ""},
    ]
    assert conversation_of(turns, chat_format("llama-3")).messages == [("user", "")]


def test_plain_turns_are_the_messages_own_texts():
    messages = [{"role": "system", "content": "S"}, {"role": "tool", "content": "O"}, calling(NAMES[0])]
    assert plain_turns(messages) == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "O"},
        {"role": "assistant", "content": ""},
    ]
