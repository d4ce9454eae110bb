"""Has a decoder's linear layers multiply by the kernels of `products`: few rows, or by int8 weights any number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from evaluation.toolbench.inference.engine.paged.execution.joined_linear import LinearPart
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage
from evaluation.toolbench.inference.engine.products.few_rows import most_rows, product
from evaluation.toolbench.inference.engine.quantized_linear import QuantizedLinear


class FewRowsLinear(nn.Module):
    """Stands for a linear layer, with the same weight, scale and bias."""

    weight: torch.Tensor
    scale: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, layer: nn.Linear | QuantizedLinear, few_rows: int) -> None:
        super().__init__()
        self.few_rows = few_rows
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("scale", layer.scale if isinstance(layer, QuantizedLinear) else None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return product(inputs, self.weight, self.scale, self.bias, self.few_rows)


def use_few_rows(stages: Sequence[Stage]) -> None:
    """Change the stages' layers, which must be modules of their own; those that have been joined stay joined."""
    for stage in stages:
        dtype = stage.decoder.dtype
        for parent in list(stage.decoder.layers.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, LinearPart):
                    layer.joined.few_rows = most_rows(layer.joined.weight, dtype)
                elif type(layer) in (nn.Linear, QuantizedLinear):
                    few_rows = most_rows(layer.weight, dtype)
                    if few_rows:
                        parent._modules[name] = FewRowsLinear(layer, few_rows)
