"""Brings a model's linear layers to 8 bits with torchao: each while it is loaded, or those of a model in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from evaluation.toolbench.inference.engine.quantized_linear import QuantizedLinear
from evaluation.toolbench.inference.errors import ConfigError, first_line
from evaluation.toolbench.inference.host_memory import available_bytes
from evaluation.toolbench.inference.memory_shares import HOST_SHARE
from evaluation.toolbench.inference.multi_gpu.footprint import Footprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TORCHAO = "torchao>=0.18,<0.19"


def require_torchao(weights: str) -> None:
    """Raise ConfigError where torchao is not installed, or too old for this transformers."""
    from transformers.utils import is_torchao_available

    if not is_torchao_available():
        raise ConfigError(f'--weights {weights} needs a package: pip install "{TORCHAO}"')


def quantization(weights: str, footprint: Footprint) -> Any:
    """Return the `quantization_config` with which transformers quantises linear layers one by one while loading.

    Each weight comes to its device in 16 bits and leaves room for the next one when it has 8: the model is never
    there in 16. What `footprint` does not count as a decoder's layer stays as it is.
    """
    from transformers import TorchAoConfig

    kept = [name for block in footprint.blocks if not block.is_layer for name in block.modules]
    return TorchAoConfig(_recipe(weights), modules_to_not_convert=kept)


def quantize(model: PreTrainedModel, weights: str, footprint: Footprint) -> PreTrainedModel:
    """Quantise the decoder's linear layers of `model`, one after another, where they are."""
    from torchao.quantization import quantize_

    layers = tuple(f"{name}." for block in footprint.blocks if block.is_layer for name in block.modules)
    quantize_(
        model,
        _recipe(weights),
        filter_fn=lambda module, name: type(module) is nn.Linear and name.startswith(layers),
    )
    return use_plain_tensors(model)


def use_plain_tensors(model: PreTrainedModel) -> PreTrainedModel:
    """Put a QuantizedLinear, which takes over the tensors, in place of each layer that torchao has quantised.

    Where there are GPUs, a product is tried on each: what the card or this torch cannot do is said before a run.
    """
    linears = _taken_over(model)
    _pack([linear for linear in linears if linear.weight.is_cuda])
    for device, held in {(linear.weight.device, linear.weight.dtype) for linear in linears}:
        _try_out(device, held, model.dtype)
    # These are plain modules again, and transformers has nothing to do for them.
    for attribute in ("hf_quantizer", "is_quantized", "quantization_method"):
        model.__dict__.pop(attribute, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _recipe(weights: str) -> Any:
    """Return torchao's: a scale for each output feature, without its settings of the compiler for the whole process."""
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    recipe = Float8WeightOnlyConfig if weights == "fp8" else Int8WeightOnlyConfig
    return recipe(set_inductor_config=False)


def _taken_over(model: PreTrainedModel) -> list[QuantizedLinear]:
    found = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            weight: Any = getattr(child, "weight", None)
            if hasattr(weight, "qdata"):
                linear = QuantizedLinear(weight.qdata, weight.scale.reshape(-1, 1).float(), child.bias)
                setattr(parent, name, linear.train(child.training))
                # torchao has hung a bound method on it: a cycle, which would keep the memory until it is collected.
                child.weight = None
                found.append(linear)
    return found


@torch.no_grad()
def _pack(linears: Sequence[QuantizedLinear]) -> None:
    """Lay weights on GPUs close together, by way of main memory where that has room.

    Each was made beside its copies in 16 and 32 bits, and has left a hole of their size that is of no use to the KV
    cache.
    """
    num_bytes = sum(linear.weight.nbytes for linear in linears)
    if not linears or num_bytes > available_bytes() * HOST_SHARE:
        return
    aside = [linear.weight.detach().cpu() for linear in linears]
    for linear in linears:
        linear.weight.data = linear.weight.new_empty(0)
    torch.cuda.empty_cache()
    for linear, weight in zip(linears, aside, strict=True):
        linear.weight.data = weight.to(linear.weight.device)


@torch.inference_mode()
def _try_out(device: torch.device, held: torch.dtype, computed: torch.dtype) -> None:
    """Raise ConfigError when a product of this format cannot be computed there."""
    side = 32
    linear = QuantizedLinear(
        torch.ones(side, side, device=device).to(held), torch.ones(side, 1, device=device), bias=None
    )
    try:
        right = bool((linear(torch.ones(3, side, dtype=computed, device=device)) == side).all())
        why = "it is wrong"
    except (RuntimeError, ValueError) as error:
        right, why = False, first_line(error)
    if not right:
        raise ConfigError(
            f"torch {torch.__version__} cannot multiply weights of {str(held).removeprefix('torch.')} on {device} "
            f"({why}): use --weights int8, or leave --weights out"
        )
