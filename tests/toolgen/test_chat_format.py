import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.toolgen.chat_format import Conversation, PromptEncoder, chat_format
from tests.helpers.toolgen import LLAMA_MARKERS, QWEN_MARKERS, build_tiny_tokenizer

TOOL_TOKENS = ["<<Finish>>", "<<Sky Watch&&Daily Forecast>>", "<<A &&b |c >>"]
TOKENIZERS = {
    "llama-3": build_tiny_tokenizer(TOOL_TOKENS, "llama-3"),
    "qwen-7b-chat": build_tiny_tokenizer(TOOL_TOKENS, "qwen"),
}
ENCODERS = {name: PromptEncoder(TOKENIZERS[name], chat_format(name)) for name in TOKENIZERS}

# Texts that try to upset the cut between turns: markers and tool tokens inside them, blanks and line breaks
# at their ends, accents that NFC joins.
FRAGMENTS = [
    *LLAMA_MARKERS,
    *QWEN_MARKERS,
    *TOOL_TOKENS,
    " ",
    "\n",
    "\n\n",
    "\t",
    "e\u0301",
    "日本",
    "city",
    "'s",
    "42 ",
]
texts = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=6).map("".join)


def conversation(template, system="", turns=()):
    conv = Conversation(chat_format(template))
    if system:
        conv.set_system_message(system)
    for role, text in turns:
        conv.append_message(conv.roles[role], text)
    return conv


def test_llama_turns_are_stripped_and_the_system_message_is_not():
    conv = conversation("llama-3", " Be brief. \n", [(0, "\nHi\n"), (1, None)])
    assert conv.get_prompt() == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n Be brief. \n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_llama_has_no_system_message_of_its_own_and_leaves_empty_turns_open():
    assert conversation("llama-3", "", [(0, "")]).get_prompt() == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    )


def test_qwen_turns_keep_their_blanks():
    conv = conversation("qwen-7b-chat", "", [(0, "\nHi\n"), (1, "")])
    assert conv.get_prompt() == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n\nHi\n<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_copy_of_a_conversation_grows_apart():
    conv = conversation("llama-3", "S", [(0, "Hi")])
    twin = conv.copy()
    twin.append_message("assistant", None)
    assert twin.get_prompt().startswith(conv.get_prompt())
    assert len(conv.messages) == 1


def test_unknown_template_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"vicuna.*llama-3 or qwen-7b-chat"):
        chat_format("vicuna")


def test_the_bos_of_llama_is_doubled_as_in_training():
    ids = ENCODERS["llama-3"].encode(conversation("llama-3", "S", [(0, "Hi"), (1, None)]).pieces())
    bos = TOKENIZERS["llama-3"].bos_token_id
    assert ids[:2] == [bos, bos]
    assert ids.count(bos) == 2


@pytest.mark.parametrize("template", TOKENIZERS)
@settings(max_examples=150)
@given(system=texts, turns=st.lists(st.tuples(st.sampled_from([0, 1]), st.one_of(st.none(), texts)), max_size=5))
def test_turns_encoded_one_by_one_are_the_whole_text_tokenized(template, system, turns):
    encoder = ENCODERS[template]
    assert encoder.splits_turns
    conv = conversation(template, system, turns)
    assert encoder.encode(conv.pieces()) == TOKENIZERS[template](conv.get_prompt())["input_ids"]


def test_a_tokenizer_whose_marker_eats_blanks_is_given_the_whole_text():
    from tokenizers import AddedToken

    tokenizer = build_tiny_tokenizer(style="qwen")
    greedy = AddedToken("<|im_start|>", special=True, normalized=False, lstrip=True)
    tokenizer.add_tokens([greedy], special_tokens=True)
    encoder = PromptEncoder(tokenizer, chat_format("qwen-7b-chat"))
    conv = conversation("qwen-7b-chat", "S", [(0, "a"), (1, "b"), (0, None)])
    assert not encoder.splits_turns
    assert encoder.encode(conv.pieces()) == tokenizer(conv.get_prompt())["input_ids"]


def test_a_turn_is_tokenized_once_however_often_it_is_asked_for():
    tokenizer = build_tiny_tokenizer(style="llama-3")
    encoder = PromptEncoder(tokenizer, chat_format("llama-3"))
    conv = conversation("llama-3", "S", [(0, "Hi"), (1, "Ho"), (0, "Hi")])
    for _ in range(3):
        encoder.encode(conv.pieces())
    assert encoder._piece_ids.cache_info().misses == 3  # opening, "Hi", "Ho"


@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_of_a_query_or_tool_can_be_encoded(text):
    for name, encoder in ENCODERS.items():
        ids = encoder.encode(conversation(name, text, [(0, text), (1, None)]).pieces())
        assert ids == encoder.encode_text("".join(conversation(name, text, [(0, text), (1, None)]).pieces()))
        encoder.encode_bare(text)


def test_half_a_surrogate_pair_is_read_as_a_replacement_character():
    encoder = ENCODERS["llama-3"]
    assert encoder.encode_text("cut \ud83d") == encoder.encode_text("cut \ufffd")
