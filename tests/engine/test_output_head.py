"""Logits of a vocabulary of any size are those of the output embedding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluation.toolbench.inference.engine.paged.execution.output_head import OutputHead, product_in_pieces


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("vocab_size", [7, 64, 97, 130])
def test_logits_in_pieces_are_the_heads(dtype, vocab_size):
    head = nn.Linear(8, vocab_size, bias=False).to(dtype)
    hidden = torch.randn(3, 8).to(dtype)
    logits = torch.empty(3, 192, dtype=dtype)[:, :vocab_size]
    product_in_pieces(hidden, head.weight.detach(), logits)
    torch.testing.assert_close(logits, head(hidden).detach())


@pytest.mark.parametrize("has_bias", [False, True])
@torch.inference_mode()
def test_logits_stay_where_they_were_made(has_bias):
    head = nn.Linear(8, 97, bias=has_bias)
    output_head = OutputHead(head, torch.device("cpu"), vocab_size=97, max_rows=5)
    hidden = torch.randn(3, 8)
    made = output_head.compute(hidden)
    torch.testing.assert_close(made, head(hidden))
    assert output_head.logits(3).data_ptr() == made.data_ptr()
    assert torch.equal(output_head.logits(2), made[:2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("num_rows", [1, 3, 16, 40])
@torch.inference_mode()
def test_logits_on_a_gpu_are_the_heads(num_rows):
    head = nn.Linear(512, 46_985, bias=False, device="cuda", dtype=torch.bfloat16)
    hidden = torch.randn(num_rows, 512, device="cuda", dtype=torch.bfloat16)
    made = OutputHead(head, torch.device("cuda"), vocab_size=46_985, max_rows=40).compute(hidden)
    torch.testing.assert_close(made, head(hidden), rtol=2e-2, atol=1e-2)
