"""Sweeps the kernel for many rows and weights of int8: a part of `matrix_products`.

Beside it stand cuBLAS with weights of bfloat16, and what PyTorch does with int8, compiled as a layer is: it unpacks
the weight for each product. Products are timed as those of `few_rows` are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.few_rows import (
    LAYERS,
    SHAPES,
    AnyTile,
    Weights,
    cold_weights,
    fastest_over_all,
    us_by_tile,
    us_of_one,
    written,
)
from evaluation.toolbench.inference.engine.kernels.hardware import is_old, shared_bytes
from evaluation.toolbench.inference.engine.products.few_rows import plain_product
from evaluation.toolbench.inference.engine.products.tiles import ManyRowsTile, choose_tile, is_wide

ROWS = (32, 64, 128, 512, 1024)
# Rows and output features of a program, input features at a time, warps, stages, splits; by the most rows that they are
# for.
_CUTS = {
    32: (
        (32, 32, 128, 4, 4),
        (32, 64, 128, 4, 4),
        (32, 64, 128, 4, 4, 2),
        (32, 64, 128, 4, 4, 4),
        (32, 128, 128, 4, 3),
        (32, 128, 128, 4, 3, 4),
    ),
    64: (
        (64, 32, 128, 4, 4),
        (64, 64, 128, 4, 3),
        (64, 64, 128, 4, 3, 2),
        (64, 64, 128, 4, 3, 4),
        (64, 128, 64, 4, 4),
        (64, 128, 64, 4, 4, 4),
    ),
    128: (
        (64, 64, 128, 4, 3),
        (64, 64, 128, 4, 3, 2),
        (128, 64, 64, 4, 4),
        (128, 64, 64, 4, 4, 2),
        (128, 64, 64, 4, 4, 4),
        (128, 128, 64, 4, 4),
        (128, 128, 64, 4, 4, 4),
    ),
    1024: (
        (128, 64, 64, 4, 4),
        (128, 128, 64, 4, 3),
        (128, 128, 64, 4, 4),
        (128, 128, 64, 4, 4, 2),
        (128, 128, 64, 8, 4),
        (128, 256, 64, 8, 4),
        (256, 128, 64, 8, 4),
    ),
}


@dataclass(frozen=True)
class Times:
    """Holds the us of one product: in bfloat16, unpacked, by the tile that is chosen, and by each of them."""

    name: str
    rows: int
    bfloat16: float
    unpacked: float
    chosen: float
    us: dict[AnyTile, float]

    @property
    def fastest(self) -> AnyTile:
        return min(self.us, key=self.us.__getitem__)

    def shown(self) -> list[float]:
        """Return what is printed."""
        return [self.bfloat16, self.unpacked, self.chosen, self.us[self.fastest]]


def sweep(device: torch.device) -> list[Times]:
    """Time every product; prints a line for each product and number of rows, then the times of all layers."""
    print("product   rows    bfloat16   unpacked     chosen    fastest   TFLOP/s   with        (us)")
    unpacking = torch.compile(plain_product, dynamic=True)
    found = []
    for name, (features, inputs) in SHAPES.items():
        plain, held = (cold_weights(dtype, features, inputs, device) for dtype in (torch.bfloat16, torch.int8))
        for rows in ROWS:
            times = _times(name, rows, plain, held, unpacking)
            fastest = times.fastest
            rate = 2 * rows * features * inputs / times.us[fastest] / 1e6
            shown = "  ".join(f"{us:>9.1f}" for us in times.shown())
            print(f"{name:<9} {rows:>4}   {shown}   {rate:>7.0f}   {written(fastest)}", flush=True)
            found.append(times)
        del plain, held
    print(f"ms of {LAYERS} layers")
    for rows in ROWS:
        several = [times.shown() for times in found if times.rows == rows]
        sums = "  ".join(f"{sum(us) * LAYERS / 1e3:>9.2f}" for us in zip(*several, strict=True))
        print(f"{'all':<9} {rows:>4}   {sums}")
    return found


def table(found: Sequence[Times]) -> str:
    """Return `tiles.INT8_TILES`, to be copied there, with the tiles that are fastest over all products of a layer."""
    lines = []
    for rows in sorted({times.rows for times in found}):
        best = []
        for wide in (False, True):
            several = [
                ({tile: us for tile, us in times.us.items() if isinstance(tile, ManyRowsTile)}, LAYERS)
                for times in found
                if times.rows == rows and is_wide(SHAPES[times.name][0]) == wide
            ]
            best.append(fastest_over_all(several))
        lines.append(f"    {rows}: ({written(best[0])}, {written(best[1])}),")
    return "\n".join(lines)


def _times(name: str, rows: int, plain: Weights, held: Weights, unpacking: Callable[..., torch.Tensor]) -> Times:
    """Time a product with the weights in bfloat16, `plain`, and in int8, `held`."""
    features, inputs = held[0][0].shape
    device = held[0][0].device
    given = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16)
    held_bytes = shared_bytes(device)
    chosen = choose_tile("int8", rows, features, inputs, on_old_card=is_old(device), shared_bytes=held_bytes)
    tiles = [ManyRowsTile(*cut) for cut in next(cuts for most, cuts in _CUTS.items() if rows <= most)]
    us = us_by_tile([*([chosen] if chosen else []), *tiles], given, held)
    return Times(
        name,
        rows,
        bfloat16=us_of_one(lambda weight, _: plain_product(given, weight, None, None), plain),
        unpacked=us_of_one(lambda weight, scale: unpacking(given, weight, scale, None), held),
        chosen=us.get(chosen, math.nan) if chosen else math.nan,
        us=us,
    )
