"""Sweeps the kernel for steps of few rows beside what PyTorch does with them: a part of `matrix_products`.

Every product is timed in a CUDA graph of products one after another, with weights in turn that the L2 cache does not
hold together. Rates count the weight's bytes. For weights in 8 bits PyTorch's way is compiled, as a layer is: what
quantises the rows, or unpacks the weight, is in its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, TypeVar

import torch

from benchmarks.ceilings import captured, median_seconds
from evaluation.toolbench.inference.engine.kernels.hardware import is_old
from evaluation.toolbench.inference.engine.products.few_rows import plain_product
from evaluation.toolbench.inference.engine.products.tiles import TILES, Format, ManyRowsTile, Tile, choose_tile, is_wide

# Of the 8B model.
SHAPES = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
LAYERS = 32
_HEAD = {"head": (175_232, 4096)}  # in 16 bits whatever the layers are; without the last rows, which make cuBLAS slow
_COLD_BYTES = 2**29  # of weights that are read between two readings of one
_HELD: dict[Format, torch.dtype] = {"16 bits": torch.bfloat16, "int8": torch.int8, "fp8": torch.float8_e4m3fn}
# Output features, bytes of a row of the weight that a warp takes at a time, warps, stages.
_CUTS = (
    (16, 64, 8, 4),
    (16, 128, 4, 4),
    (16, 128, 4, 6),
    (16, 128, 8, 3),
    (16, 256, 4, 3),
    (32, 64, 8, 4),
    (32, 128, 4, 4),
    (64, 128, 4, 3),
)
_CUTS_FOR_MORE = ((32, 64, 4, 4), (32, 128, 4, 3), (64, 32, 4, 4), (64, 64, 4, 3), (64, 32, 8, 3))  # than 16 rows
_SUMMED_CUTS = ((16, 128, 4, 4), (16, 256, 4, 3))

AnyTile = Tile | ManyRowsTile
T = TypeVar("T")
Weights = Sequence[tuple[torch.Tensor, torch.Tensor | None]]


@dataclass(frozen=True)
class Times:
    """Holds the us of one product, by tile; None is PyTorch's."""

    held: Format
    name: str
    rows: int
    us: dict[AnyTile | None, float]


def sweep(device: torch.device) -> list[Times]:
    """Time every product with every tile; prints a line for each format, product and number of rows."""
    print("weights   product   rows    PyTorch        as chosen      fastest tile    (us and GB/s)")
    found = []
    for held, dtype in _HELD.items():
        plain: Callable[..., torch.Tensor] = plain_product
        if held != "16 bits":
            plain = torch.compile(plain_product, dynamic=True)
        for name, (features, inputs) in (SHAPES | _HEAD if held == "16 bits" else SHAPES).items():
            weights = cold_weights(dtype, features, inputs, device)
            for rows in [rows for kind, rows in TILES if kind == held]:
                times = Times(held, name, rows, _us_by_tile(plain, weights, held, rows))
                chosen = choose_tile(held, rows, features, inputs, on_old_card=is_old(device))
                fastest = min((tile for tile in times.us if tile), key=lambda tile: times.us[tile])
                shown = [
                    f"{times.us[tile]:>6.1f} {weights[0][0].nbytes / times.us[tile] / 1e3:>6.0f}"
                    for tile in (None, chosen, fastest)
                ]
                print(f"{held:<9} {name:<9} {rows:>4} {'  '.join(shown)}  {written(fastest)}", flush=True)
                found.append(times)
            del weights
    return found


def table(found: Sequence[Times]) -> str:
    """Return `tiles.TILES`, to be copied there, with the tiles that are fastest over all products of a step."""
    lines = []
    for held, rows in TILES:
        best = []
        for wide in (False, True):
            several = [
                (times.us, 1 if times.name in _HEAD else LAYERS)
                for times in found
                if (times.held, times.rows) == (held, rows) and is_wide((SHAPES | _HEAD)[times.name][0]) == wide
            ]
            best.append(fastest_over_all(several))
        lines.append(f'    ("{held}", {rows}): ({written(best[0])}, {written(best[1])}),')
    return "\n".join(lines)


def fastest_over_all(several: Sequence[tuple[Mapping[T, float], int]]) -> T:
    """Return the tile with the least time in all, of those that every product has; each is called so many times."""
    everywhere = [tile for tile in several[0][0] if all(tile in us for us, _ in several)]
    return min(everywhere, key=lambda tile: sum(calls * us[tile] for us, calls in several))


def record(times: Any) -> dict[str, Any]:
    """Return what JSON takes of the `times` of a product, whose `us` are by tile."""
    return vars(times) | {"us": {written(tile): us for tile, us in times.us.items()}}


def written(tile: AnyTile | None) -> str:
    """Return `tile` as the table has it."""
    if tile is None:
        return "None"
    if isinstance(tile, ManyRowsTile):
        return f"ManyRowsTile({', '.join(map(str, astuple(tile)))})"
    *numbers, is_summed = astuple(tile)
    return f"Tile({', '.join(map(str, numbers))}{', is_summed=True' if is_summed else ''})"


def _us_by_tile(
    plain: Callable[..., torch.Tensor], weights: Weights, held: Format, rows: int
) -> dict[AnyTile | None, float]:
    features, inputs = weights[0][0].shape
    given = torch.randn(rows, inputs, device=weights[0][0].device, dtype=torch.bfloat16)
    us: dict[AnyTile | None, float] = {
        None: us_of_one(lambda weight, scale: plain(given, weight, scale, None), weights)
    }
    chosen = choose_tile(held, rows, features, inputs, on_old_card=is_old(given.device))
    return us | us_by_tile([*([chosen] if chosen else []), *_tiles(rows, weights[0][0].itemsize)], given, weights)


def us_by_tile(tiles: Iterable[AnyTile], given: torch.Tensor, weights: Weights) -> dict[AnyTile, float]:
    """Return the us of `given` (T, K) times one of `weights` by each of `tiles`, those that fit the card."""
    us = {}
    for tile in dict.fromkeys(tiles):
        try:
            us[tile] = _us_of_tile(tile, given, weights)
        except Exception as error:  # a tile that does not fit the card is no answer, and the others are
            print(f"{len(given)} rows, {written(tile)}: {type(error).__name__}: {error}"[:200], flush=True)
    return us


def _us_of_tile(tile: AnyTile, given: torch.Tensor, weights: Weights) -> float:
    from evaluation.toolbench.inference.engine.products.triton_few_rows import few_rows_product
    from evaluation.toolbench.inference.engine.products.triton_many_rows import many_rows_product

    out = given.new_empty(len(given), len(weights[0][0]))

    def work(weight: torch.Tensor, scale: torch.Tensor | None) -> None:
        if isinstance(tile, ManyRowsTile):
            assert scale is not None
            many_rows_product(given, weight, scale, None, out, tile)
        else:
            few_rows_product(given, weight, scale, None, out, tile)

    return us_of_one(work, weights)


def _tiles(rows: int, item_bytes: int) -> Iterator[Tile]:
    for features, num_bytes, num_warps, num_stages in _CUTS if rows <= 16 else _CUTS_FOR_MORE:
        yield Tile(rows, features, num_bytes // item_bytes, num_warps, num_stages)
    if rows == 1:
        for features, num_bytes, num_warps, num_stages in _SUMMED_CUTS:
            yield Tile(1, features, num_bytes // item_bytes, num_warps, num_stages, is_summed=True)


def cold_weights(dtype: torch.dtype, features: int, inputs: int, device: torch.device) -> Weights:
    """Return as many weights (features, inputs), with scales for 8 bits, as the L2 cache does not hold together."""
    count = max(2, -(-_COLD_BYTES // (features * inputs * dtype.itemsize))) if device.type == "cuda" else 2
    numbers = [torch.randn(features, inputs, device=device, dtype=torch.bfloat16) for _ in range(count)]
    if dtype == torch.bfloat16:
        return [(weight, None) for weight in numbers]
    scale = torch.full((features, 1), 0.05, device=device)
    return [((weight * 20).clamp(-127, 127).to(dtype), scale) for weight in numbers]


@torch.inference_mode()
def us_of_one(work: Callable[[torch.Tensor, torch.Tensor | None], object], weights: Weights) -> float:
    """Return the us of `work` for one of `weights`, of which each has its turn."""

    def all_of_them() -> None:
        for weight, scale in weights:
            work(weight, scale)

    device = weights[0][0].device
    timed = captured(all_of_them, all_of_them) if device.type == "cuda" else all_of_them
    return round(1e6 * median_seconds(timed, device, repeats=7) / len(weights), 2)
