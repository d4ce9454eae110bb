"""Multiplies many rows by a weight of int8 in Triton, without unpacking the weight in memory first.

What it costs. The weight is read once, at one byte, where unpacking reads one, writes two and reads them again. With
some hundred rows arithmetic takes the time: products are those of 16 bits, at the rate of matrix instructions.

How it is laid out. A program computes a tile of output features for a tile of rows. It brings its part of the weight
to 16 bits in registers, from which Hopper's matrix instructions take one side, while the rows, the other side, stay in
shared memory; so the weight comes first and the result is stored across. Programs of the same features are neighbours:
they run at the same time, and memory gives each part of the weight once. Sums stay in float32 until they are scaled,
since float16 does not hold them before. Where such programs are too few to fill a card, several share an input, and a
second kernel adds their parts in their order. The grids depend on shapes alone.
"""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl

from evaluation.toolbench.inference.engine.products.tiles import ManyRowsTile

# Numbers from which on 16 bits hold 128 whole numbers, one after another: 128 in bfloat16, 1,024 in float16.
_WHOLE_BFLOAT16 = tl.constexpr(0x4300)
_WHOLE_FLOAT16 = tl.constexpr(0x6400)
_ADDED = 1024  # output features of a program that adds parts


def many_rows_product(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    tile: ManyRowsTile,
) -> None:
    """Write `inputs` (T, K) times `weight` (N, K) int8, scaled by `scale` (N, 1), plus `bias` (N,), to `out` (T, N).

    T is any number; the last dimension of all is contiguous.
    """
    num_rows, num_inputs = inputs.shape
    num_features = len(weight)
    grid = (triton.cdiv(num_rows, tile.rows), triton.cdiv(num_features, tile.features), tile.splits)
    parts = inputs.new_empty(tile.splits, *out.shape, dtype=torch.float32) if tile.splits > 1 else None
    with torch.cuda.device_of(inputs):  # Triton launches on the current device; a model may be spread over several
        _multiply_many[grid](
            inputs,
            weight,
            scale,
            bias,
            out if parts is None else parts,
            num_rows,
            num_features,
            num_inputs,
            inputs.stride(0),
            weight.stride(0),
            out.stride(0) if parts is None else num_features,
            IS_EVEN=num_inputs % tile.inputs == 0,
            ROWS=tile.rows,
            FEATURES=tile.features,
            INPUTS=tile.inputs,
            STAGES=tile.num_stages,
            SPLITS=tile.splits,
            num_warps=tile.num_warps,
        )
        if parts is not None:
            _add_parts[num_rows, triton.cdiv(num_features, _ADDED)](
                parts,
                scale,
                bias,
                out,
                num_rows,
                num_features,
                out.stride(0),
                FEATURES=_ADDED,
                SPLITS=tile.splits,
            )


# Not specialised: the rows differ from step to step.
@triton.jit(do_not_specialize=["num_rows"])
def _multiply_many(
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
    IS_EVEN: tl.constexpr,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    INPUTS: tl.constexpr,
    STAGES: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Compute FEATURES output features of ROWS rows; their part, unscaled, where the input is split."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    feature = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    position = tl.arange(0, INPUTS)
    # The last program reads the last row and feature again in place of those past the end, and does not store them.
    rows_read = tl.minimum(row, num_rows - 1).to(tl.int64)
    features_read = tl.minimum(feature, num_features - 1).to(tl.int64)
    inputs_at = inputs + rows_read[None, :] * inputs_row + position[:, None]
    weight_at = weight + features_read[:, None] * weight_row + position[None, :]
    acc = tl.zeros([FEATURES, ROWS], tl.float32)
    each = tl.cdiv(num_inputs, SPLITS * INPUTS) * INPUTS
    first = tl.program_id(2) * each
    for start in tl.range(first, tl.minimum(first + each, num_inputs), INPUTS, num_stages=STAGES):
        if IS_EVEN:
            numbers = tl.load(weight_at + start)
            rows = tl.load(inputs_at + start)
        else:
            inside = position < num_inputs - start
            numbers = tl.load(weight_at + start, mask=inside[None, :], other=0)
            rows = tl.load(inputs_at + start, mask=inside[:, None], other=0.0)
        acc = tl.dot(_exactly(numbers, rows.dtype), rows, acc, input_precision="ieee")
    feature_ok = feature < num_features
    if SPLITS > 1:
        result = acc
    else:
        result = acc * tl.load(scale + feature, mask=feature_ok, other=0.0)[:, None]
        if bias is not None:
            result = result + tl.load(bias + feature, mask=feature_ok, other=0.0).to(tl.float32)[:, None]
    out_row_at = (tl.program_id(2) * num_rows + row).to(tl.int64) * out_row
    target = out + out_row_at[None, :] + feature[:, None]
    tl.store(target, result.to(out.dtype.element_ty), mask=feature_ok[:, None] & (row < num_rows)[None, :])


@triton.jit(do_not_specialize=["num_rows"])
def _add_parts(
    parts,
    scale,
    bias,
    out,
    num_rows,
    num_features,
    out_row,
    FEATURES: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Add the parts (SPLITS, T, N) of FEATURES output features of a row."""
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    feature_ok = feature < num_features
    result = tl.zeros([FEATURES], tl.float32)
    for split in tl.static_range(SPLITS):
        result += tl.load(parts + (split * num_rows + row) * num_features + feature, mask=feature_ok, other=0.0)
    result = result * tl.load(scale + feature, mask=feature_ok, other=0.0)
    if bias is not None:
        result = result + tl.load(bias + feature, mask=feature_ok, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + feature, result.to(out.dtype.element_ty), mask=feature_ok)


@triton.jit
def _exactly(numbers, dtype: tl.constexpr):
    """Return int8 in `dtype`: of 16 bits by integer arithmetic on pairs and a subtraction, not one by one.

    The lower 7 bits go into the mantissa of a number W of which the last digit is worth 1, and the upper bit, which is
    worth -128, into that of another: (W + lower) - (W + 128 * upper) is exact.
    """
    if dtype == tl.float32:
        exact = numbers.to(tl.float32)
    else:
        whole: tl.constexpr = _WHOLE_BFLOAT16 if dtype == tl.bfloat16 else _WHOLE_FLOAT16
        bits = numbers.to(tl.int16)
        lower = ((bits & 0x7F) | whole).to(dtype, bitcast=True)
        upper = ((bits & 0x80) | whole).to(dtype, bitcast=True)
        exact = lower - upper
    return exact
