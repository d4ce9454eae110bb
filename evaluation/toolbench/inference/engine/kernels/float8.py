"""Keeps keys and values in 8 bits: e4m3 numbers (4 bits of exponent, 3 of mantissa), a scale for each token and head.

The scale of a vector of D numbers is its largest magnitude over 448, e4m3's largest, in float32. A number comes
back within 1/16 of itself, or within the scale over 1,024 where that is more. Zeros come back as zeros. What is
beyond float16's largest, 65,504, is stored as that, infinity too: attention multiplies such keys and values in
float16. A vector with a NaN in it comes back as NaN throughout.
"""

from __future__ import annotations

import torch

LARGEST = 448.0  # of e4m3
LIMIT = 65_504.0  # of float16
SMALLEST_PEAK = 1e-30  # vectors smaller than that are stored as if they were not, so that nothing divides by zero

Scales = tuple[torch.Tensor, torch.Tensor]  # of keys and of values, (num_pages, page_size, Hkv) float32 each


def vector_bytes(size: int) -> int:
    """Return what a vector of `size` numbers takes, its scale included."""
    return size + torch.float32.itemsize


def quantize(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the codes, uint8 and shaped like `vectors` (..., D), and the scales (...) in float32."""
    vectors = vectors.float().clamp(-LIMIT, LIMIT)
    peak = vectors.abs().amax(-1).clamp(min=SMALLEST_PEAK)
    codes = (vectors * (LARGEST / peak).unsqueeze(-1)).to(torch.float8_e4m3fn)
    return codes.view(torch.uint8), peak / LARGEST


def dequantize(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return the vectors (..., D) in float32, of codes (..., D) and scales (...)."""
    return codes.view(torch.float8_e4m3fn).float() * scales.unsqueeze(-1)
