"""Tiny random-weights models and a plain Python walk over what a generation was allowed."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.kernels.float8 import dequantize, quantize
from evaluation.toolbench.inference.engine.request import GenerationRequest, GenerationResult

VOCAB_SIZE = 97  # not a multiple of anything that a kernel likes
CONTEXT = 128
_TINY = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
}


def tiny_llama(seed: int = 0, **changes: int | float | bool) -> LlamaForCausalLM:
    """A float32 Llama of 2 layers on the CPU, with weights large enough that its tokens vary."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**_TINY | changes)).eval()


def tiny_qwen2(seed: int = 0, **changes: int | float | bool) -> Qwen2ForCausalLM:
    """Like `tiny_llama`: with biases in its attention."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(**_TINY | changes)).eval()


def tiny_qwen3(seed: int = 0, **changes: int | float | bool) -> Qwen3ForCausalLM:
    """Like `tiny_llama`: with normalised queries and keys, and heads of a size of their own."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(Qwen3Config(**_TINY | {"head_dim": 16} | changes)).eval()


def attending_in_float8(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with attention spelled out over keys and values that have been through 8 bits."""
    model.set_attn_implementation("spelled_out_in_float8")
    return model


def _attend_in_float8(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, Hq, T, D)
    key: torch.Tensor,  # (1, Hkv, all tokens, D)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    group = query.shape[1] // key.shape[1]
    key, value = (dequantize(*quantize(kept)).to(query.dtype).repeat_interleave(group, dim=1) for kept in (key, value))
    scores = query @ key.transpose(-1, -2) * scaling
    seen = torch.ones_like(scores, dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2), None


AttentionInterface.register("spelled_out_in_float8", _attend_in_float8)


def plain_greedy(model: PreTrainedModel, prompt_ids: list[int], max_new_tokens: int) -> list[int]:
    """Greedy tokens by whole forward passes: no cache, no `generate`, nothing of ours."""
    ids = list(prompt_ids)
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt_ids) :]


def penalized_greedy(
    model: PreTrainedModel, prompt_ids: list[int], max_new_tokens: int, penalty: float, **more: Any
) -> list[int]:
    """Greedy tokens under a repetition penalty, by transformers alone; `more` goes to `generate`."""
    prompt = torch.tensor([prompt_ids])
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=penalty,
        **more,
    )
    return output[0, len(prompt_ids) :].tolist()


def assert_allowed(request: GenerationRequest, result: GenerationResult) -> None:
    """Every token of `result` was allowed at its place, and it ended where it had to."""
    tokens = list(result.token_ids)
    assert 1 <= len(tokens) <= request.max_new_tokens
    assert not any(token in request.stop_ids for token in tokens[:-1])
    if isinstance(request.constraint, TokenSet):
        assert all(token in request.constraint for token in tokens)
        ended = tokens[-1] in request.stop_ids
    elif isinstance(request.constraint, TokenTrie):
        trie, node, ended = request.constraint, TokenTrie.ROOT, False
        for token in tokens:
            assert not ended
            assert token in trie.allowed(node)
            if token == trie.end_id:
                ended = True
            else:
                node = trie.step(node, token)
                ended = trie.is_leaf(node)
    else:
        ended = tokens[-1] in request.stop_ids
    assert result.finish_reason == ("stop" if ended else "length")
    assert ended or len(tokens) == request.max_new_tokens
