"""Multiplies by a layer's weight: steps of few rows by a kernel that reads it as fast as memory gives it.

Of a weight in int8 any number of rows has a kernel: PyTorch would unpack it in memory for each product.
"""

from __future__ import annotations

import logging
import math
from functools import cache

import torch
from torch import nn

from evaluation.toolbench.inference.engine.kernels.availability import triton_works
from evaluation.toolbench.inference.engine.kernels.cache import launch
from evaluation.toolbench.inference.engine.kernels.hardware import is_old, shared_bytes
from evaluation.toolbench.inference.engine.products import tiles
from evaluation.toolbench.inference.engine.products.tiles import Format, ManyRowsTile, Tile, choose_tile
from evaluation.toolbench.inference.engine.quantized_linear import FP8, quantized_product
from evaluation.toolbench.inference.errors import first_line

_EIGHT_BITS: dict[torch.dtype, Format] = {torch.int8: "int8", FP8: "fp8"}
_SIXTEEN_BITS = (torch.bfloat16, torch.float16)
_PROVEN_ROWS = 16  # by int8: up to these the kernel's products have been right on an H200
_TRIED_FEATURES, _TRIED_INPUTS, _TOLERANCE = (96, 16_400), 256, 0.02  # few features and many, see `tiles`

logger = logging.getLogger(__name__)


def plain_product(
    inputs: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:  # (..., N) in the dtype of `inputs`
    """Return `inputs` (..., K) times `weight` (N, K), scaled by `scale` (N, 1) where it has one, plus `bias`."""
    if scale is None:
        return nn.functional.linear(inputs, weight, bias)
    return quantized_product(inputs, weight, scale, bias)


def product(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    few_rows: int,
) -> torch.Tensor:  # (..., N) in the dtype of `inputs`
    """Return what `plain_product` does; of up to `few_rows` rows by our kernel (see `most_rows`).

    The number of rows is looked at in Python, so a compiler makes two versions of what calls this. That for many rows
    is what it is without this function: what it fuses with the quantisation of activations, it goes on fusing.
    """
    if math.prod(inputs.shape[:-1]) <= few_rows:
        few: torch.Tensor = _few_rows(inputs, weight, scale, bias)
        return few
    return plain_product(inputs, weight, scale, bias)


def most_rows(weight: torch.Tensor, dtype: torch.dtype) -> int:
    """Return up to how many rows of `dtype` our kernel is faster with `weight` (N, K); 0 where it is not for it."""
    held = _format(weight, dtype)
    if held is None or not weight.is_cuda or not triton_works(weight.device):
        return 0
    most = tiles.most_rows(held, *weight.shape, on_old_card=is_old(weight.device))
    if held == "int8" and most > _PROVEN_ROWS and not many_rows_agree(weight.device, dtype):
        return _PROVEN_ROWS
    return most


@cache
def many_rows_agree(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether more rows times int8 give what PyTorch gives, tried once on `device`; else warn and say why.

    The kernel for them makes numbers of 16 bits out of single bits: neither a card nor a Triton that nobody has tried
    is taken at its word. Every tile of the tables is tried once.
    """
    cases = [(rows, features) for rows in tiles.int8_rows() if rows > _PROVEN_ROWS for features in _TRIED_FEATURES]
    for num_rows, features in {choose_tile("int8", *case, _TRIED_INPUTS): case for case in cases}.values():
        rows = torch.randn(num_rows, _TRIED_INPUTS, device=device).to(dtype)
        weight = torch.randint(-128, 128, (features, _TRIED_INPUTS), device=device, dtype=torch.int8)
        scale = torch.rand(features, 1, device=device)
        exact = plain_product(rows.float(), weight, scale, None)
        try:
            found = by_kernel(rows, weight, scale, None)
            agrees = found is None or bool((found.float() - exact).norm() < _TOLERANCE * exact.norm())
            why = "it is wrong"
        except Exception as error:
            agrees, why = False, f"{type(error).__name__}: {first_line(error)}"
        if not agrees:
            logger.warning(
                "weights of int8 are unpacked in steps of more than %d tokens, which is slower: on %s the product of "
                "%d rows and %d features does not work (%s)",
                *(_PROVEN_ROWS, device, num_rows, features, why),
            )
            return False
    return True


# To a compiler this is one operation: it neither looks inside nor needs to know the number of rows.
@torch.library.custom_op(
    "toolgen::few_rows_product",
    mutates_args=(),
    schema="(Tensor inputs, Tensor weight, Tensor? scale, Tensor? bias) -> Tensor",
)
def _few_rows(
    inputs: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    num_features, num_inputs = weight.shape
    found = by_kernel(inputs.reshape(-1, num_inputs), weight, scale, bias)
    if found is None:
        return plain_product(inputs, weight, scale, bias)
    return found.view(*inputs.shape[:-1], num_features)


@_few_rows.register_fake
def _(
    inputs: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    return inputs.new_empty(*inputs.shape[:-1], len(weight))


def by_kernel(
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    out: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """Return `rows` (T, K) times `weight` (N, K) by our kernel, (T, N), in `out` if given; None if it has no tile."""
    can_launch = rows.is_cuda and len(rows) > 0 and weight.stride(1) == 1 and triton_works(rows.device)
    tile = tile_for(rows, weight) if can_launch else None
    if tile is None:
        return None
    given = rows if rows.stride(1) == 1 else rows.contiguous()
    written = given.new_empty(len(given), len(weight)) if out is None else out
    if isinstance(tile, ManyRowsTile):
        from evaluation.toolbench.inference.engine.products.triton_many_rows import many_rows_product

        assert scale is not None
        launch(lambda: many_rows_product(given, weight, scale, bias, written, tile))
    else:
        from evaluation.toolbench.inference.engine.products.triton_few_rows import few_rows_product

        launch(lambda: few_rows_product(given, weight, scale, bias, written, tile))
    return written


def tile_for(rows: torch.Tensor, weight: torch.Tensor) -> Tile | ManyRowsTile | None:
    """Return how the kernel is cut for `rows` (T, K) and `weight` (N, K); None for products that are PyTorch's."""
    held = _format(weight, rows.dtype)
    if held is None:
        return None
    return choose_tile(
        held,
        len(rows),
        *weight.shape,
        on_old_card=is_old(rows.device),
        shared_bytes=shared_bytes(rows.device),
    )


def _format(weight: torch.Tensor, dtype: torch.dtype) -> Format | None:
    """Return the table's name for `weight` where rows are of `dtype`; None for what the table does not have."""
    if dtype not in _SIXTEEN_BITS:
        return None
    return "16 bits" if weight.dtype == dtype else _EIGHT_BITS.get(weight.dtype)
