"""Computes the logits of a large vocabulary at the speed that the card has for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from evaluation.toolbench.inference.engine.products.few_rows import by_kernel

_PIECE = 64  # rows of the output embedding of which cuBLAS takes any multiple fast


class OutputHead:
    """Computes the logits of embedding `head`, always in the same place: a step's graph leaves them there.

    At most `max_rows` rows at a time, on `device`.
    """

    def __init__(self, head: Any, device: torch.device, *, vocab_size: int, max_rows: int) -> None:
        self.device = device
        self.vocab_size = vocab_size
        self.max_rows = max_rows
        self._head = head
        width = -(-vocab_size // _PIECE) * _PIECE if device.type == "cuda" else vocab_size
        self._room: torch.Tensor = torch.empty(max_rows, width, dtype=head.weight.dtype, device=device)

    def logits(self, num_rows: int) -> torch.Tensor:
        """Return (num_rows, vocab_size): those that `compute` made last."""
        return self._room[:num_rows, : self.vocab_size]

    def compute(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return (R, vocab_size) of `hidden` (R, hidden size), on `device`."""
        room = self.logits(len(hidden))
        weight = self._head.weight if type(self._head) is nn.Linear and self._head.bias is None else None
        if weight is None or not _kind(weight) == _kind(hidden) == _kind(room):
            room.copy_(self._head(hidden))
        elif not room.is_cuda:
            torch.mm(hidden, weight.t(), out=room)
        elif by_kernel(hidden, weight, None, None, room) is None:
            product_in_pieces(hidden, weight, room)
        return room


def product_in_pieces(hidden: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """Compute hidden (R, K) @ weight (N, K) transposed to `out` (R, N), whose rows had best be a multiple of 64 apart.

    For an odd number of ids cuBLAS chooses slow kernels: 175,241 ids and 64 rows take an H100 1.61 ms, the first
    175,232 and the other 9 by themselves 0.54 ms.
    """
    size = len(weight)
    most = size // _PIECE * _PIECE
    for start, end in ((0, most), (most, size)):
        if end > start:
            torch.mm(hidden, weight[start:end].t(), out=out[:, start:end])


def _kind(tensor: torch.Tensor) -> tuple[torch.device, torch.dtype]:
    return tensor.device, tensor.dtype
