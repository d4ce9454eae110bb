"""Calls PyTorch's own flash attention, for prompts that have no cached prefix.

It takes keys and values as they come from the model, one sequence after another, and knows no pages.
(Newer versions of PyTorch take a block table as well; `triton_prefill` serves those steps.)
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

_DTYPES = (torch.bfloat16, torch.float16)


def supports(q: torch.Tensor) -> bool:
    """Return whether PyTorch has it for queries like `q` (T, Hq, D): half precision, compute capability from 8.0 on."""
    return q.dtype in _DTYPES and q.shape[2] % 8 == 0 and q.shape[2] <= 256 and _is_available(q.device)


def prefill(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor, max_q: int, scale: float
) -> torch.Tensor:
    """Compute causal attention of whole sequences: q (T, Hq, D), k and v (T, Hkv, D) -> (T, Hq, D)."""
    from torch.nn.attention.varlen import varlen_attn

    causal = (-1, 0)
    options = grouped_query_option()
    result = varlen_attn(q, k, v, cu_seqlens_q, cu_seqlens_q, max_q, max_q, scale=scale, window_size=causal, **options)
    assert isinstance(result, torch.Tensor)  # a pair only where the log of the sums is asked for
    return result


@functools.cache
def _is_available(device: torch.device) -> bool:
    return (
        device.type == "cuda"
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and torch.backends.cuda.is_flash_attention_available()
    )


@functools.cache
def grouped_query_option() -> dict[str, Any]:
    """Return what tells PyTorch of fewer KV heads than query heads: 2.11 takes them as they come, later ones ask."""
    from torch.nn.attention.varlen import varlen_attn

    return {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
