"""Says which weights of a model are held in 8 bits, and what they take. Pure.

The linear layers of the decoder are; embedding and head, where the rows of rare tool tokens lie, and the norms are not.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from evaluation.toolbench.inference.engine.quantized_linear import unpacking_bytes
from evaluation.toolbench.inference.errors import ConfigError

_SCALE_BYTES = 4  # a float32 for each output feature
_FP8_STEP = 16  # features of which a product of float8 takes multiples only
_LEAST_SHARE = 0.5  # of the decoder's weights in linear layers, for 8 bits to be worth their error


def quantized_linears(name: str, weights: str, layers: Iterable[tuple[str, nn.Module]]) -> dict[str, nn.Linear]:
    """Return the linear layers within the decoder's `layers`, by name, that `weights` ("int8", "fp8") applies to.

    ConfigError for a model, called `name` in messages, whose weights are elsewhere or of other sizes than products
    of that format have.
    """
    layers = list(layers)
    linears = {
        f"{prefix}.{inner}": module
        for prefix, layer in layers
        for inner, module in layer.named_modules()
        if type(module) is nn.Linear
    }
    in_linears = sum(linear.weight.numel() for linear in linears.values())
    in_all = sum(tensor.numel() for _, layer in layers for tensor in layer.parameters())
    if in_linears < _LEAST_SHARE * in_all or not linears:
        raise ConfigError(
            f"--weights {weights}: only {in_linears:,} of the {in_all:,} weights in the layers of {name} are in linear "
            "layers (nn.Linear), which can be held in 8 bits: leave --weights out"
        )
    odd = [
        (path, linear)
        for path, linear in linears.items()
        if linear.in_features % _FP8_STEP or linear.out_features % _FP8_STEP
    ]
    if weights == "fp8" and odd:
        path, linear = odd[0]
        raise ConfigError(
            f"--weights fp8: products of float8 need multiples of {_FP8_STEP} features, and {path} of {name} has "
            f"{linear.in_features} x {linear.out_features}: use --weights int8",
            layer=path,
        )
    return linears


def quantized_bytes(linear: nn.Linear) -> int:
    """Return the bytes of the layer's weight in 8 bits, with its scales."""
    return linear.weight.numel() + _SCALE_BYTES * linear.out_features


def unpacked_bytes(weights: str, linears: Iterable[nn.Linear], item_bytes: int) -> int:
    """Return what products need beside activations: each brings int8 weights to the model's dtype, of `item_bytes`."""
    return unpacking_bytes((linear.weight.numel() for linear in linears), item_bytes) if weights == "int8" else 0
