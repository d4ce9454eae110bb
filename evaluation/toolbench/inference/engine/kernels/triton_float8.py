"""Makes and reads 8-bit keys and values (see `float8`) inside of Triton kernels.

The codes are made and read with integer arithmetic, which every card has and Triton's interpreter does exactly;
where the card converts e4m3 itself (see `hardware`), it reads with that. Attention multiplies in float16, which holds
e4m3 exactly: to make bfloat16 of it takes a card before Blackwell four times as many instructions.
"""

# What a kernel takes are Triton's values, for which Python has no types.
# ruff: noqa: ANN001, ANN201
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from evaluation.toolbench.inference.engine.kernels import float8

LARGEST = tl.constexpr(float8.LARGEST)
_LIMIT = tl.constexpr(float8.LIMIT)
_SMALLEST_PEAK = tl.constexpr(float8.SMALLEST_PEAK)
_SMALLEST_NORMAL = tl.constexpr(2.0**-6)  # below it, codes count steps of 2^-9
_LARGEST_CODE = tl.constexpr(0x7E)


@triton.jit
def scales_of(vectors):
    """Return vectors (H, D) float32, with what is too large cut off, and their scales (H,)."""
    nan = vectors != vectors
    vectors = tl.where(nan, vectors, tl.minimum(tl.maximum(vectors, -_LIMIT), _LIMIT))
    # As integers magnitudes have the same order, and NaN comes last.
    bits = tl.max(vectors.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1)
    peak = bits.to(tl.float32, bitcast=True)
    peak = tl.where(peak < _SMALLEST_PEAK, _SMALLEST_PEAK, peak)
    return vectors, tl.div_rn(peak, LARGEST), tl.div_rn(LARGEST, peak)


@triton.jit
def codes_of(vectors, inverse_scales):
    """Return the codes of vectors (H, D) as uint8, rounded to the nearest, ties to even."""
    numbers = vectors * inverse_scales[:, None]
    bits = numbers.to(tl.int32, bitcast=True)
    sign = (bits >> 24) & 0x80
    bits = bits & 0x7FFFFFFF
    magnitude = bits.to(tl.float32, bitcast=True)
    # 3 of 23 bits of the mantissa stay; the exponent's offset is 7 and not 127.
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - ((127 - 7) << 3)
    # The float32 at 2^14 are 2^-9 apart: the addition rounds, and the last bits count.
    subnormal = (magnitude + 16384.0).to(tl.int32, bitcast=True) & 0xF
    code = tl.where(magnitude < _SMALLEST_NORMAL, subnormal, tl.minimum(normal, _LARGEST_CODE))
    return (code | sign).to(tl.uint8)


@triton.jit
def numbers_of(codes, dtype: tl.constexpr, IS_NATIVE: tl.constexpr):
    """Return what the codes stand for, without their scales, in float16 or float32."""
    if IS_NATIVE:
        numbers = codes.to(tl.float8e4nv, bitcast=True).to(tl.float16)
    else:
        # The sign goes to the top, the rest becomes exponent and mantissa; the exponent's offset is 15 and not 7.
        bits = (codes.to(tl.int8, bitcast=True).to(tl.int16) << 7) & -16385
        numbers = bits.to(tl.float16, bitcast=True) * 256.0
    return numbers.to(dtype)


@triton.jit
def multiplicand(query):
    """Return queries in the dtype in which they are multiplied with 8-bit keys: float16, or float32 as they are."""
    if query.dtype == tl.bfloat16:
        multiplied = tl.minimum(tl.maximum(query.to(tl.float32), -_LIMIT), _LIMIT).to(tl.float16)
    else:
        multiplied = query
    return multiplied
