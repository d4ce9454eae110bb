"""Makes models with the shapes of ToolGen's checkpoints and random weights, and counts what they cost a GPU."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.number_formats import WEIGHTS
from evaluation.toolbench.inference.multi_gpu.quantized_loading import quantize

TOOL_TOKENS = 46_985  # the last rows of a vocabulary


def _llama_8b() -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=128_256 + TOOL_TOKENS,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rope_theta=500_000.0,
        tie_word_embeddings=False,
    )


def _qwen_3b() -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=151_665 + TOOL_TOKENS,
        hidden_size=2048,
        intermediate_size=11_008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        rope_theta=1_000_000.0,
        tie_word_embeddings=True,
    )


def _tiny() -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=1000 + TOOL_TOKENS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )


SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {"8b": _llama_8b, "qwen3b": _qwen_3b, "tiny": _tiny}


@dataclass(frozen=True, slots=True)
class ModelCosts:
    """Counts what one model asks of a GPU, by its shape alone."""

    num_parameters: int
    step_bytes: int  # weights that a decode step reads: all but an input embedding of its own
    kv_token_bytes: int  # keys and values of one token, all layers
    prompt_token_flop: int  # the layers' matrix products for one token, without attention


def costs_of(config: PreTrainedConfig, dtype: torch.dtype) -> ModelCosts:
    """Count the costs on a model without memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    embedding = model.get_input_embeddings().weight.numel()
    is_tied = bool(config.tie_word_embeddings)
    head_dim = config.hidden_size // config.num_attention_heads
    return ModelCosts(
        num_parameters=total,
        step_bytes=(total if is_tied else total - embedding) * dtype.itemsize,
        kv_token_bytes=2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * dtype.itemsize,
        prompt_token_flop=2 * (total - (1 if is_tied else 2) * embedding),
    )


def weight_formats(text: str) -> list[str]:
    """Return the formats that a flag such as `--weights auto,fp8` lists."""
    formats = text.split(",")
    if set(formats) - set(WEIGHTS):
        raise ArgumentTypeError(f"{text}: choose of {', '.join(WEIGHTS)}")
    return formats


def make_model(
    config: PreTrainedConfig, device: torch.device, dtype: torch.dtype, *, seed: int = 0, weights: str = AUTO
) -> PreTrainedModel:
    """Return the model on `device`, with random weights made there, and brought to the format `weights` as a run's."""
    torch.manual_seed(seed)
    with device:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if weights != AUTO:
        quantize(model, weights, footprint_of_config(config, dtype, weights=weights))
    return model.eval()
