"""Prompts to the byte, and answers as texts."""

import pytest

from evaluation.toolbench.demo import MODEL_DIR
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.toolgen.agent_parts import load_tokenizer
from evaluation.toolbench.retrieval.prompts import RetrievalPrompts
from tests.helpers.toolgen import shared_tokenizer

LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    "Will it rain?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
QWEN = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n Will it rain? <|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(MODEL_DIR))


def test_prompts_have_upstreams_bytes():
    assert RetrievalPrompts(shared_tokenizer(), "llama-3").text(" Will it rain? ") == LLAMA
    assert RetrievalPrompts(shared_tokenizer("qwen-7b-chat"), "qwen-7b-chat").text(" Will it rain? ") == QWEN


def test_a_llama_prompt_has_one_begin_of_text(tokenizer):
    ids = RetrievalPrompts(tokenizer, "llama-3").ids("Will it rain?")
    assert ids.count(tokenizer.convert_tokens_to_ids("<|begin_of_text|>")) == 1
    assert tokenizer.decode(ids) == LLAMA


def test_an_answer_ends_at_the_end_token_and_keeps_tool_tokens_and_blanks(tokenizer):
    prompts = RetrievalPrompts(tokenizer, "llama-3")
    tool = prompts.bare_ids("<<Sky Watch&&Daily Forecast>>")
    assert len(tool) == 1
    blanks = prompts.bare_ids(" x , y")
    assert prompts.answer([*tool, prompts.end_id, *tool]) == "<<Sky Watch&&Daily Forecast>>"
    begin = tokenizer.convert_tokens_to_ids("<|begin_of_text|>")
    assert prompts.answer([begin, *blanks, prompts.end_id]) == " x , y"
    assert prompts.answer([]) == ""


def test_a_template_that_the_tokenizer_or_nobody_knows_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"no token <\|im_end\|>"):
        RetrievalPrompts(tokenizer, "qwen-7b-chat")
    with pytest.raises(ConfigError, match="unknown template 'vicuna'"):
        RetrievalPrompts(tokenizer, "vicuna")
