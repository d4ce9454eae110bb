"""Copies a few numbers: the smallest kernel, by which `availability` sees whether Triton works."""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl


def copy_numbers(inputs: torch.Tensor, out: torch.Tensor) -> None:
    """Copy `inputs` to `out`, a power of two of numbers each, by one program."""
    with torch.cuda.device_of(inputs):
        _copy_numbers[(1,)](inputs, out, SIZE=inputs.numel())


@triton.jit
def _copy_numbers(inputs, out, SIZE: tl.constexpr):
    """Copy them all at once."""
    element = tl.arange(0, SIZE)
    tl.store(out + element, tl.load(inputs + element))
