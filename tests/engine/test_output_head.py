"""Logits of a vocabulary of any size are those of the output embedding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluation.toolbench.inference.engine.paged.execution.output_head import logits_of, product_in_pieces


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("vocab_size", [7, 64, 97, 130])
def test_logits_in_pieces_are_the_heads(dtype, vocab_size):
    head = nn.Linear(8, vocab_size, bias=False).to(dtype)
    hidden = torch.randn(3, 8).to(dtype)
    logits = product_in_pieces(hidden, head.weight.detach())
    torch.testing.assert_close(logits, head(hidden).detach())
    torch.testing.assert_close(logits_of(head, hidden), head(hidden))
