"""Computes what a model needs: bytes of weights per block, of KV cache per token, of logits per row.

From the config alone (the model is built on the meta device, so nothing is allocated), with the sizes
in the checkpoint's safetensors headers where there is a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from evaluation.toolbench.inference.engine.kernels.float8 import vector_bytes
from evaluation.toolbench.inference.engine.paged.working_memory import activation_bytes_per_token
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.multi_gpu.checkpoint import (
    Checkpoint,
    Tensor,
    have_different_values,
    read_checkpoint,
    read_config,
)
from evaluation.toolbench.inference.multi_gpu.eight_bit import quantized_bytes, quantized_linears, unpacked_bytes
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.model_files import find_model
from evaluation.toolbench.inference.multi_gpu.number_formats import EIGHT_BIT, NumberFormats

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Block:
    """Holds modules that cannot be parted: a decoder layer, the embedding (with the head when they share weights)."""

    modules: tuple[str, ...]
    weight_bytes: int
    kv_bytes_per_token: int = 0
    makes_logits: bool = False

    @property
    def is_layer(self) -> bool:
        """Return whether it is a decoder layer, the only kind with a KV cache."""
        return self.kv_bytes_per_token > 0


@dataclass(frozen=True)
class Footprint:
    """Lists a model's blocks in the order in which a token passes them, and what its requests cost beside them."""

    model: str
    dtype: str
    blocks: tuple[Block, ...]
    vocab_size: int
    activation_bytes_per_token: int  # at the widest point of a layer during prefill
    max_length: int  # tokens, from the config
    weights: str = AUTO  # of the decoder's linear layers: as `dtype`, or "int8" or "fp8"
    unpacked_bytes: int = 0  # what a step takes for weights that are unpacked for their product
    kv_cache: str = AUTO  # keys and values: as `dtype`, or "fp8"

    @property
    def weight_bytes(self) -> int:
        return sum(block.weight_bytes for block in self.blocks)

    @property
    def kv_bytes_per_token(self) -> int:
        return sum(block.kv_bytes_per_token for block in self.blocks)

    @property
    def num_layers(self) -> int:
        return sum(block.is_layer for block in self.blocks)

    @property
    def item_bytes(self) -> int:
        """Return the bytes of a weight of the decoder."""
        return 1 if self.weights in EIGHT_BIT else int(getattr(torch, self.dtype).itemsize)

    @property
    def formats(self) -> str:
        """Say in which formats the model is, in words."""
        return NumberFormats(self.dtype, self.weights, self.kv_cache).in_words


def toolgen_8b_config() -> PretrainedConfig:
    """Return the shape of ToolGen-Llama-3-8B: Llama-3-8B with 46,985 tool tokens behind its 128,256."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=128_256 + 46_985,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        rms_norm_eps=1e-5,
        bos_token_id=128_000,
        eos_token_id=128_009,
        tie_word_embeddings=False,
    )


def footprint_of_checkpoint(
    model_path: str,
    dtype: torch.dtype | None = torch.bfloat16,
    *,
    fp8: bool = False,
    config: PretrainedConfig | None = None,
    weights: str = AUTO,
    kv_cache: str = AUTO,
) -> Footprint:
    """Return the footprint of the model at `model_path` when it is loaded in `dtype` (None: as it is stored).

    `fp8` says that weights stored as FP8 stay so (`dtypes.keep_fp8`), `weights` in which format those of linear layers
    are held that are stored in another, `kv_cache` in which keys and values are. `config` is the model's, where it has
    been read: it is changed where the weights say otherwise (see `footprint_of_config`). An adapter's own weights are
    not counted: it is merged into the model's. DataError for a checkpoint that cannot be used.
    """
    files = find_model(model_path)
    config = config or read_config(model_path)
    checkpoint = read_checkpoint(files.folder, getattr(config, "transformers_weights", None))
    if files.adapter:  # which may bring an embedding of other rows
        checkpoint = replace(checkpoint, tensors={})
    return footprint_of_config(
        config, dtype, name=files.name, checkpoint=checkpoint, fp8=fp8, weights=weights, kv_cache=kv_cache
    )


def footprint_of_config(
    config: PretrainedConfig,
    dtype: torch.dtype | None = torch.bfloat16,
    *,
    name: str = "model",
    checkpoint: Checkpoint | None = None,
    fp8: bool = False,
    weights: str = AUTO,
    kv_cache: str = AUTO,
) -> Footprint:
    """Return the footprint of the model that `config` describes; sizes from `checkpoint` where it has the tensor.

    `dtype` None means the dtype in the headers, else the config's, else float32. Where the config ties the head to
    the embedding and the checkpoint holds different ones, `config` is changed to say so, as transformers loads
    them. DataError when no model can be built from the config, or the checkpoint's tensors have other shapes than
    that model's; ConfigError where `weights` names a format of 8 bits that this model cannot have.
    """
    from transformers import AutoModelForCausalLM

    meta_dtype = dtype or getattr(config, "dtype", None) or torch.float32
    text = config.get_text_config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=meta_dtype)
        kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        max_length = int(text.max_position_embeddings)
    except Exception as error:  # the model's own code, on numbers that nobody has checked
        what = " ".join(str(error).split())[:200]
        raise DataError(
            f"no model can be built, or planned for, from the config of {name}: {type(error).__name__}: {what}"
        ) from error
    quantization = getattr(config, "quantization_config", None)
    if checkpoint and not quantization:  # packed weights have shapes of their own
        _check_shapes(model, checkpoint)
    if checkpoint and text.tie_word_embeddings and _is_untied(model, checkpoint):
        for part in (config, text):
            part.tie_word_embeddings = False
        options: dict[str, Any] = {"fp8": fp8, "weights": weights, "kv_cache": kv_cache}
        return footprint_of_config(config, dtype, name=name, checkpoint=checkpoint, **options)
    intermediate_size = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    stored = checkpoint.tensors if checkpoint else {}
    is_fp8 = _method_of(quantization) == "fp8"
    is_packed = bool(quantization) and (fp8 or not is_fp8) and bool(stored)
    linears: dict[str, nn.Linear] = {}
    if weights in EIGHT_BIT:
        if quantization:
            raise ConfigError(
                f"--weights {weights}: the weights of {name} are quantised already ({_method_of(quantization)}): leave "
                "--weights out to use them as they are"
            )
        units = _units(model, text.num_hidden_layers)
        linears = quantized_linears(name, weights, ((path, unit) for path, unit, is_layer in units if is_layer))
    key_bytes = vector_bytes(head_dim) if kv_cache == "fp8" else head_dim * meta_dtype.itemsize
    return Footprint(
        model=name,
        dtype=str(meta_dtype).removeprefix("torch."),
        blocks=_blocks(model, 2 * kv_heads * key_bytes, dtype, stored, linears, is_packed),
        vocab_size=text.vocab_size,
        activation_bytes_per_token=activation_bytes_per_token(text.hidden_size, intermediate_size, meta_dtype.itemsize),
        max_length=max_length,
        weights=weights,
        unpacked_bytes=unpacked_bytes(weights, linears.values(), meta_dtype.itemsize),
        kv_cache=kv_cache,
    )


def _check_shapes(model: PreTrainedModel, checkpoint: Checkpoint) -> None:
    stored = checkpoint.tensors
    wrong = [
        (name, tensor)
        for name, tensor in model.named_parameters()
        if name in stored and tensor.shape != stored[name].shape
    ]
    empty = [name for name, _ in wrong if not stored[name].num_bytes]
    if empty:
        raise DataError(
            f"{len(empty)} tensors in {checkpoint.folder} are empty, the first is {empty[0]}: it was saved under "
            "DeepSpeed ZeRO-3 without gathering the weights. Make weights of the save with its zero_to_fp32.py, or "
            "save again with stage3_gather_16bit_weights_on_model_save",
            tensor=empty[0],
        )
    if wrong:
        name, tensor = wrong[0]
        raise DataError(
            f"the weights in {checkpoint.folder} are not those of its config: {name} is {list(stored[name].shape)} in "
            f"the file and {list(tensor.shape)} by config.json"
            + (f", and {len(wrong) - 1} more differ" if len(wrong) > 1 else ""),
            tensor=name,
        )


def _is_untied(model: PreTrainedModel, checkpoint: Checkpoint) -> bool:
    """Return whether the checkpoint holds a head of its own, different from the embedding that it is tied to."""
    names = {id(module): name for name, module in model.named_modules()}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    embedding, head = (checkpoint.tensors.get(f"{names.get(id(module))}.weight") for module in ends)
    return embedding is not None and head is not None and have_different_values(embedding, head)


def _method_of(quantization: Any) -> str:
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    return str(getattr(method, "quant_method", method) or "")


def _blocks(
    model: PreTrainedModel,
    layer_kv_bytes: int,
    dtype: torch.dtype | None,
    stored: Mapping[str, Tensor],
    quantized: Mapping[str, nn.Linear],
    is_packed: bool = False,
) -> tuple[Block, ...]:
    """Return the model's units of placement in execution order, tied ones merged into the first of them.

    The linear layers `quantized` are held in 8 bits. What `is_packed` stays as it is stored, under names that the plain
    model does not have (scales, packed weights).
    """
    head = model.get_output_embeddings()
    in_eight_bits = {f"{path}.weight": quantized_bytes(linear) for path, linear in quantized.items()}
    blocks: list[Block] = []
    owner: dict[int, int] = {}  # id of a parameter -> position of the block that holds it
    for name, module, is_layer in _units(model, model.config.get_text_config().num_hidden_layers):
        parameters = dict(module.named_parameters(prefix=name))
        shared = next((owner[id(tensor)] for tensor in parameters.values() if id(tensor) in owner), None)
        own = {key: tensor for key, tensor in parameters.items() if id(tensor) not in owner}
        num_bytes = sum(
            in_eight_bits.get(key) or _loaded_bytes(tensor, stored.get(key), dtype) for key, tensor in own.items()
        )
        if is_packed and own:
            num_bytes = sum(tensor.num_bytes for key, tensor in stored.items() if key.startswith(f"{name}."))
        num_bytes += sum(buffer.nbytes for buffer in module.buffers())
        block = Block((name,), num_bytes, layer_kv_bytes if is_layer else 0, module is head)
        if not parameters and blocks:  # tables such as the rotary frequencies, used where the tokens come in
            shared = 0
        if shared is None:
            blocks.append(block)
            shared = len(blocks) - 1
        else:
            blocks[shared] = _merged(blocks[shared], block)
        owner.update((id(tensor), shared) for tensor in parameters.values())
    return tuple(blocks)


def _units(model: PreTrainedModel, num_layers: int) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield (name, module, is a decoder layer) of the modules that are placed whole, in the model's own order."""
    unsplit = set(model._no_split_modules or ())

    def walk(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            yield from ((f"{name}.{index}", layer, True) for index, layer in enumerate(module))
            return
        children = list(module.named_children())
        has_own_tensors = any(True for _ in module.parameters(recurse=False)) or any(
            True for _ in module.buffers(recurse=False)
        )
        if not children or has_own_tensors or type(module).__name__ in unsplit:
            if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
                yield name, module, False
            return
        for child_name, child in children:
            yield from walk(f"{name}.{child_name}" if name else child_name, child)

    yield from walk("", model)


def _loaded_bytes(tensor: torch.Tensor, stored: Tensor | None, dtype: torch.dtype | None) -> int:
    if stored is None:
        return tensor.nbytes
    return stored.num_bytes if dtype is None else math.prod(stored.shape) * tensor.element_size()


def _merged(first: Block, second: Block) -> Block:
    return Block(
        modules=first.modules + second.modules,
        weight_bytes=first.weight_bytes + second.weight_bytes,
        kv_bytes_per_token=first.kv_bytes_per_token + second.kv_bytes_per_token,
        makes_logits=first.makes_logits or second.makes_logits,
    )
