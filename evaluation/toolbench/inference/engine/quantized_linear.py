"""Holds a linear layer's weight in 8 bits, and multiplies by it.

The weight is a plain tensor with a scale for each output feature, as a library has quantised it: plain tensors can be
joined, compiled and captured in CUDA graphs like any others. Products are PyTorch's; our own: see `products`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FP8).max
_LEAST = 1e-12  # of a row's largest activation: rows of padding are zeros


class QuantizedLinear(nn.Module):
    """Maps (..., K) to (..., N) by `weight` (N, K) int8 or float8 and `scale` (N, 1) float32; `bias` (N,) or None."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return quantized_product(inputs, self.weight, self.scale, self.bias)


def quantized_product(
    inputs: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:  # (..., N) in the dtype of `inputs`
    """Return `inputs` (..., K) times `weight` (N, K), scaled by `scale` (N, 1), plus `bias`.

    A GPU multiplies float8 with float8, the activations scaled row by row. Elsewhere, and of int8, the weight is
    unpacked: before the product, not after it, because sums of unscaled integers exceed what float16 holds.
    """
    if weight.dtype == FP8 and weight.is_cuda:
        product = float8_product(inputs.reshape(-1, inputs.shape[-1]), weight, scale)
        product = product.reshape(*inputs.shape[:-1], len(weight))
        return product if bias is None else product + bias
    unpacked = (weight.to(scale.dtype) * scale).to(inputs.dtype)
    return nn.functional.linear(inputs, unpacked, bias)


def float8_product(rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return `rows` (T, K) bfloat16, brought to float8 with a scale each, times `weight` (N, K): (T, N) bfloat16."""
    row_scale = rows.abs().amax(dim=1, keepdim=True).float().clamp(min=_LEAST) / _LARGEST
    quantized = (rows.float() / row_scale).clamp(-_LARGEST, _LARGEST).to(FP8)
    product: torch.Tensor = torch._scaled_mm(
        quantized, weight.t(), scale_a=row_scale, scale_b=scale.t(), out_dtype=rows.dtype, use_fast_accum=True
    )
    return product


def unpacked_bytes(model: nn.Module, item_bytes: int) -> int:
    """Return what a step of `model`, which computes in numbers of `item_bytes`, takes for unpacked weights."""
    sizes = [
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, QuantizedLinear) and not (module.weight.dtype == FP8 and module.weight.is_cuda)
    ]
    return unpacking_bytes(sizes, item_bytes)


def unpacking_bytes(sizes: Iterable[int], item_bytes: int) -> int:
    """Return the room for unpacked weights of layers of these `sizes` (numbers), in numbers of `item_bytes`.

    At most two of the largest layers at once, which are one product where they are joined; and that in the memory of
    CUDA graphs and once more outside, for steps that have none.
    """
    return 4 * max(sizes, default=0) * item_bytes
