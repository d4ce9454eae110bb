"""A small world for retrieval, with what ToolGen's own evaluation wrote of it, and the model that it was made with.

`EXAMPLE/data` is ToolGen's layout with six made-up tools and four queries. `EXAMPLE/expected` is what upstream wrote
and printed in float32 on the CPU (`all_`: all tools, `stage_`: limited to the stage's).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from unidecode import unidecode

EXAMPLE = Path(__file__).parents[1] / "retrieval" / "example"
SET = "G1_instruction"
_FIRST_TOOL = 128256  # Llama-3's ids, and behind them the tools


def example_world(folder: Path) -> Path:
    """`folder` with the example's data in it, to be changed at will."""
    shutil.copytree(EXAMPLE / "data", folder / "data")
    return folder


def save_tiny_retriever(folder: Path, *, with_tools: bool = True) -> Path:
    """The example's checkpoint, with fixed numbers: the same on every machine, and exact in bfloat16."""
    tokenizer = _tokenizer(with_tools)
    tokenizer.save_pretrained(folder)
    _model(len(tokenizer)).to(torch.bfloat16).save_pretrained(folder)
    return folder


def _tokenizer(with_tools: bool) -> PreTrainedTokenizerFast:
    """Bytes without merges, padded so that the Llama-3 ids are the real ones, and a token for each tool."""
    reserved = [f"<|r{number}|>" for number in range(251)]
    special = ["<|begin_of_text|>", "<|end_of_text|>", *reserved[:4], "<|start_header_id|>", "<|end_header_id|>"]
    special += [reserved[4], "<|eot_id|>", *reserved[5:]]
    vocabulary = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary.update({f"\u25a1unused{i}": i for i in range(256, 128000)})
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B", special_tokens=[("<|begin_of_text|>", 128000)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    if with_tools:
        lines = (EXAMPLE / "data" / "virtual_tokens.txt").read_text(encoding="utf-8").splitlines()
        fast.add_tokens([unidecode(line.strip()) for line in lines], special_tokens=False)
        assert fast.convert_tokens_to_ids("<<Finish>>") == _FIRST_TOOL
    assert fast.convert_tokens_to_ids("<|eot_id|>") == 128009
    return fast


def _model(num_ids: int, width: int = 16) -> LlamaForCausalLM:
    """Random, except that the end of turn is likely after a tool token and a second tool token is not."""
    rng = np.random.RandomState(27)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=num_ids,
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=128000,
            eos_token_id=128001,
        )
    )
    tools = list(range(_FIRST_TOOL, num_ids))
    used = [*range(256), *range(128000, num_ids)]
    embedding, head = (rng.standard_normal((num_ids, width)) * 0.02 for _ in range(2))
    embedding[used] = rng.standard_normal((len(used), width)) * 0.7
    head[used] = rng.standard_normal((len(used), width)) * 0.2
    head[tools] *= 8.0
    embedding[:, 0], head[:, 0], embedding[tools, 0], head[tools, 0], head[128009, 0] = 0.0, 0.0, 6.0, -4.0, 6.0
    state = model.state_dict()
    for name in sorted(state):
        if "norm" in name:
            continue
        if "embed" in name:
            values = embedding
        elif "lm_head" in name:
            values = head
        else:
            values = rng.standard_normal(tuple(state[name].shape)) * (0.9 if "attn" in name else 0.4)
        state[name].copy_(torch.from_numpy(np.asarray(values, np.float32)).to(torch.bfloat16).float())
    return model
