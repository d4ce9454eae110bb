"""Multiplies few rows by a weight of 16 or 8 bits in Triton, as fast as memory gives the weight.

What it costs. The weight is read once: 33.5 MB of bfloat16 for 4,096 x 4,096, 8 us at 4.3 TB/s. Each program reads the
rows for itself, out of the L2 cache. A weight of 8 bits is brought to 16 in registers, so it takes half the time. The
rows stay in 16 bits, where PyTorch's product of float8 takes rows in float8: with int8 as they are, with float8 in
float16, cut off at 65,504 (see `kernels.triton_float8`).

How it is laid out. One program computes some output features over the whole input, with no second kernel to add
parts. Its warps take turns along the input: each multiplies a part of its own, as one of a batch of matrix products,
and the parts are added once at the end. In the matrix instructions the weight is the side of 16, the rows are that of
8; fewer are made 8 in registers. The next tiles are on their way while one is multiplied. With 16 output features a
program, 4,096 of them give each multiprocessor of an H200 two programs.
"""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl

from evaluation.toolbench.inference.engine.kernels.hardware import converts_float8
from evaluation.toolbench.inference.engine.kernels.triton_float8 import multiplicand, numbers_of
from evaluation.toolbench.inference.engine.products.tiles import Tile


def few_rows_product(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    tile: Tile,
) -> None:
    """Write `inputs` (T, K) times `weight` (N, K), scaled by `scale` (N, 1), plus `bias` (N,), to `out` (T, N).

    T is at most `tile.rows`; the last dimension of all is contiguous. `weight` has the dtype of `inputs`, or is int8
    or float8 (e4m3) and has a scale.
    """
    num_rows, num_inputs = inputs.shape
    num_features = len(weight)
    is_float8 = weight.dtype == torch.float8_e4m3fn
    with torch.cuda.device_of(inputs):  # Triton launches on the current device; a model may be spread over several
        _multiply[(triton.cdiv(num_features, tile.features),)](
            inputs,
            weight.view(torch.uint8) if is_float8 else weight,
            scale,
            bias,
            out,
            num_rows,
            num_features,
            num_inputs,
            inputs.stride(0),
            weight.stride(0),
            out.stride(0),
            IS_FLOAT8=is_float8,
            IS_NATIVE=converts_float8(inputs.device),
            IS_EVEN=num_inputs % (tile.num_warps * tile.inputs) == 0,
            ROWS=tile.rows,
            FEATURES=tile.features,
            INPUTS=tile.inputs,
            PARTS=tile.num_warps,
            STAGES=tile.num_stages,
            IS_SUMMED=tile.is_summed,
            num_warps=tile.num_warps,
        )


# Not specialised: the rows differ from step to step.
@triton.jit(do_not_specialize=["num_rows"])
def _multiply(
    inputs,
    weight,
    scale,
    bias,
    out,
    num_rows,
    num_features,
    num_inputs,
    inputs_row,
    weight_row,
    out_row,
    IS_FLOAT8: tl.constexpr,
    IS_NATIVE: tl.constexpr,
    IS_EVEN: tl.constexpr,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    INPUTS: tl.constexpr,
    PARTS: tl.constexpr,
    STAGES: tl.constexpr,
    IS_SUMMED: tl.constexpr,
):
    """Compute FEATURES output features of all rows; of the only one where IS_SUMMED."""
    feature = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    feature_ok = feature < num_features
    row = tl.arange(0, ROWS)
    row_ok = row < num_rows
    position = tl.arange(0, PARTS)[:, None] * INPUTS + tl.arange(0, INPUTS)[None, :]
    # The last program reads the last feature again in place of those past the end, and does not store them.
    read = tl.minimum(feature, num_features - 1).to(tl.int64)
    weight_at = weight + read[None, :, None] * weight_row + position[:, None, :]
    if IS_SUMMED:
        inputs_at = inputs + position[:, None, :]
        acc = tl.zeros([PARTS, FEATURES, INPUTS], tl.float32)
    else:
        inputs_at = inputs + row[None, None, :] * inputs_row + position[:, :, None]
        acc = tl.zeros([PARTS, FEATURES, ROWS], tl.float32)
    for start in tl.range(0, num_inputs, PARTS * INPUTS, num_stages=STAGES):
        if IS_EVEN:
            numbers = tl.load(weight_at + start, eviction_policy="evict_first")
        else:
            inside = position < num_inputs - start
            numbers = tl.load(weight_at + start, mask=inside[:, None, :], other=0, eviction_policy="evict_first")
        if IS_SUMMED:
            if IS_EVEN:
                rows = tl.load(inputs_at + start)
            else:
                rows = tl.load(inputs_at + start, mask=inside[:, None, :], other=0.0)
        else:
            if IS_EVEN:
                rows = tl.load(inputs_at + start, mask=row_ok[None, None, :], other=0.0)
            else:
                rows = tl.load(inputs_at + start, mask=inside[:, :, None] & row_ok[None, None, :], other=0.0)
        if IS_FLOAT8:
            rows = multiplicand(rows)
            numbers = numbers_of(numbers, rows.dtype, IS_NATIVE)
        if IS_SUMMED:
            acc += numbers.to(tl.float32) * rows.to(tl.float32)
        else:
            acc = tl.dot(numbers.to(rows.dtype), rows, acc, input_precision="ieee")
    result = tl.sum(tl.sum(acc, 2, keep_dims=True), 0) if IS_SUMMED else tl.sum(acc, 0)
    if scale is not None:
        result = result * tl.load(scale + feature, mask=feature_ok, other=0.0)[:, None]
    if bias is not None:
        result = result + tl.load(bias + feature, mask=feature_ok, other=0.0).to(tl.float32)[:, None]
    target = out + row[None, :] * out_row + feature[:, None]
    tl.store(target, result.to(out.dtype.element_ty), mask=feature_ok[:, None] & row_ok[None, :])
