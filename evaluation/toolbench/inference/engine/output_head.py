"""Logits of a large vocabulary, at the speed that the card has for them."""

from __future__ import annotations

import torch
from torch import nn

_ROW_BYTES = 16  # where cuBLAS's fast kernels want every row of the result to begin


def logits_of(head: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """(R, vocab_size) of `hidden` (R, hidden size), by the output embedding `head`.

    A matrix with rows of 175,241 numbers of 2 bytes takes a GPU three times as long as one whose rows begin
    at multiples of 16 bytes (1.6 ms instead of 0.5 on an H100). So the result is given such rows.
    """
    weight = head.weight if type(head) is nn.Linear and head.bias is None else None
    if weight is not None and hidden.is_cuda and (weight.device, weight.dtype) == (hidden.device, hidden.dtype):
        return aligned_product(hidden, weight)
    logits: torch.Tensor = head(hidden)
    return logits


def aligned_product(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """hidden (R, K) @ weight (N, K) transposed: (R, N), a view of rows that are a little longer."""
    per_row = _ROW_BYTES // hidden.element_size()
    width = -(-len(weight) // per_row) * per_row
    room = hidden.new_empty(len(hidden), width)[:, : len(weight)]
    return torch.mm(hidden, weight.t(), out=room)
