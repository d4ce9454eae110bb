"""Says how the kernels are cut, by format, rows and size; `benchmarks.matrix_products` tries others."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Literal

_WIDE = 16_384  # output features from which programs are many
_ALIGNED = 16  # bytes that a load takes at once

Format = Literal["16 bits", "int8", "fp8"]


@dataclass(frozen=True, slots=True)
class Tile:
    """Says what a program of the kernel for few rows computes, and how.

    rows         computed at once, zeros for those that a step lacks: a power of two
    features     output features of a program
    inputs       input features that each of its warps takes at a time; the warps take turns along the input
    num_warps    warps of a program
    num_stages   tiles in memory or on the way there
    is_summed    of one row: multiplies and sums in float32, not by matrix instructions
    """

    rows: int
    features: int
    inputs: int
    num_warps: int
    num_stages: int
    is_summed: bool = False


@dataclass(frozen=True, slots=True)
class ManyRowsTile:
    """Says what a program of the kernel for many rows computes, and how.

    rows         of a program: a power of two
    features     output features of a program: a power of two
    inputs       input features that it takes at a time
    num_warps    warps of a program
    num_stages   tiles in memory or on the way there
    splits       of the input: programs for as many parts of it, where there are too few to fill a card
    """

    rows: int
    features: int
    inputs: int
    num_warps: int
    num_stages: int
    splits: int = 1

    @property
    def stage_bytes(self) -> int:
        """Return the bytes of shared memory that one load stage takes: weights of int8, rows of 16 bits."""
        return self.inputs * (self.features + 2 * self.rows)


# By format and most rows: for few output features (the projections around attention, the last of the feed-forward
# layer) and for many. The fastest on an H200 of those that `benchmarks.matrix_products --few_rows` tries, which ends
# with such a table. None, and more rows: PyTorch's product, but of int8 the kernel for many rows.
TILES: dict[tuple[Format, int], tuple[Tile | None, Tile | None]] = {
    ("16 bits", 1): (Tile(1, 16, 128, 4, 3, is_summed=True), Tile(1, 16, 64, 4, 4, is_summed=True)),
    ("16 bits", 8): (Tile(8, 16, 64, 4, 4), None),
    ("16 bits", 16): (None, None),
    ("int8", 1): (Tile(8, 16, 128, 4, 4), Tile(8, 16, 128, 4, 4)),
    ("int8", 8): (Tile(8, 16, 128, 4, 4), Tile(8, 32, 128, 4, 3)),
    ("int8", 16): (Tile(16, 16, 128, 4, 4), Tile(16, 32, 64, 4, 4)),
    ("fp8", 1): (Tile(1, 16, 128, 4, 4, is_summed=True), Tile(1, 16, 128, 4, 4, is_summed=True)),
    ("fp8", 8): (Tile(8, 16, 128, 4, 4), Tile(8, 32, 128, 4, 3)),
    ("fp8", 16): (Tile(16, 32, 128, 4, 3), Tile(16, 32, 128, 4, 3)),
}
# The same, of int8 and more rows than the table above has for it; for more than the last, that one. Measured in the
# same way, with `--int8_rows`, which ends with such a table.
INT8_TILES: dict[int, tuple[ManyRowsTile, ManyRowsTile]] = {
    32: (ManyRowsTile(32, 64, 128, 4, 4, 4), ManyRowsTile(32, 64, 128, 4, 4)),
    64: (ManyRowsTile(64, 64, 128, 4, 3, 4), ManyRowsTile(64, 64, 128, 4, 3)),
    128: (ManyRowsTile(128, 64, 64, 4, 4, 4), ManyRowsTile(128, 64, 64, 4, 4)),
    512: (ManyRowsTile(128, 64, 64, 4, 4), ManyRowsTile(256, 128, 64, 8, 4)),
    1024: (ManyRowsTile(256, 128, 64, 8, 4), ManyRowsTile(256, 128, 64, 8, 4)),
}
# Without matrix instructions that Triton knows, and without copies that run ahead.
_OLD_CARD = Tile(1, 16, 64, 4, 1, is_summed=True)


def choose_tile(
    held: Format,
    rows: int,
    features: int,
    inputs: int,
    *,
    on_old_card: bool = False,
    shared_bytes: int = sys.maxsize,
) -> Tile | ManyRowsTile | None:
    """Return the tile for `rows` inputs times a weight (features, inputs) of format `held`; None for PyTorch's product.

    On an old card (see `kernels.hardware`) the kernel is for one row and weights in 8 bits. For many rows there are
    as many stages as a block's `shared_bytes` hold, if the table has more.
    """
    if inputs % _ALIGNED:
        return None
    if on_old_card:
        return _OLD_CARD if rows == 1 and held != "16 bits" else None
    fitting = (tiles for (kind, most), tiles in TILES.items() if kind == held and rows <= most)
    narrow_and_wide = next(fitting, None)
    if narrow_and_wide is None and held == "int8":
        most = next((most for most in INT8_TILES if rows <= most), max(INT8_TILES))
        tile = INT8_TILES[most][is_wide(features)]
        return replace(tile, num_stages=max(1, min(tile.num_stages, shared_bytes // tile.stage_bytes)))
    return narrow_and_wide[is_wide(features)] if narrow_and_wide else None


def most_rows(held: Format, features: int, inputs: int, *, on_old_card: bool = False) -> int:
    """Return the most rows that there is a tile for, which may be any number; 0 where there is none."""
    sizes = [*(rows for kind, rows in TILES if kind == held), sys.maxsize]
    return max((n for n in sizes if choose_tile(held, n, features, inputs, on_old_card=on_old_card)), default=0)


def int8_rows() -> list[int]:
    """Return up to how many rows each entry is that int8 has, in both tables."""
    return [*(rows for kind, rows in TILES if kind == "int8"), *INT8_TILES]


def is_wide(features: int) -> bool:
    """Return whether the table counts so many output features as many."""
    return features >= _WIDE
