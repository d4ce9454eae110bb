"""Sweeps the kernel for steps of few rows beside what PyTorch does with them: a part of `matrix_products`.

Every product is timed in a CUDA graph of products one after another, with weights in turn that the L2 cache does not
hold together. Rates count the weight's bytes. For weights in 8 bits PyTorch's way is compiled, as a layer is: what
quantises the rows, or unpacks the weight, is in its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.ceilings import captured, median_seconds
from evaluation.toolbench.inference.engine.attention.hardware import is_old
from evaluation.toolbench.inference.engine.products.few_rows import plain_product
from evaluation.toolbench.inference.engine.products.tiles import Format, Tile, choose_tile

ROWS = (1, 8, 16)
SHAPES = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}  # of the 8B model
_COLD_BYTES = 2**29  # of weights that are read between two readings of one
_HELD: dict[Format, torch.dtype] = {"16 bits": torch.bfloat16, "int8": torch.int8, "fp8": torch.float8_e4m3fn}
# Output features, bytes of a row of the weight that a warp takes at a time, warps, stages.
_CUTS = (
    (16, 64, 8, 4),
    (16, 128, 4, 4),
    (16, 128, 4, 6),
    (16, 128, 8, 4),
    (16, 256, 4, 4),
    (32, 64, 4, 5),
    (32, 128, 4, 3),
    (32, 128, 4, 5),
)
_SUMMED_CUTS = ((8, 256, 4, 4), (16, 128, 4, 4), (16, 256, 4, 3))


def sweep(device: torch.device) -> dict[str, Any]:
    """Print a line a format, product and number of rows; returns every time, in us, and GB/s of the fastest."""
    print("weights   product   rows    PyTorch        as chosen      fastest tile    (us and GB/s)")
    found: dict[str, Any] = {}
    for held, dtype in _HELD.items():
        plain: Callable[..., torch.Tensor] = plain_product
        if held != "16 bits":
            plain = torch.compile(plain_product, dynamic=True)
        for name, (features, inputs) in SHAPES.items():
            weights = _weights(dtype, features, inputs, device)
            for rows in ROWS:
                given = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16)
                times = _times(plain, given, weights, held, rows)
                fastest = min((us, label) for label, us in times.items() if label not in ("PyTorch", "chosen"))[1]
                num_bytes = weights[0][0].nbytes
                shown = [
                    f"{times[label]:>6.1f} {num_bytes / times[label] / 1e3:>6.0f}"
                    for label in ("PyTorch", "chosen", fastest)
                ]
                print(f"{held:<9} {name:<9} {rows:>4} {'  '.join(shown)}  {fastest}", flush=True)
                found[f"{held}, {name}, {rows}"] = times
            del weights
    return found


def _times(
    plain: Callable[..., torch.Tensor],
    given: torch.Tensor,
    weights: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
    held: Format,
    rows: int,
) -> dict[str, float]:
    """Return the time of a product in us: PyTorch's, that of the tile which the engine chooses, and of each tile."""
    from evaluation.toolbench.inference.engine.products.triton_few_rows import few_rows_product

    features, inputs = weights[0][0].shape
    out = given.new_empty(len(given), features)

    def by_kernel(tile: Tile) -> float:
        return _us(lambda weight, scale: few_rows_product(given, weight, scale, None, out, tile), weights)

    times = {"PyTorch": _us(lambda weight, scale: plain(given, weight, scale, None), weights)}
    chosen = choose_tile(held, rows, features, inputs, on_old_card=is_old(given.device))
    times["chosen"] = times["PyTorch"] if chosen is None else by_kernel(chosen)
    for tile in _tiles(rows, weights[0][0].itemsize):
        label = ", ".join(f"{key} {value}" for key, value in asdict(tile).items())
        try:
            times[label] = by_kernel(tile)
        except Exception as error:  # a tile that does not fit the card is no answer, and the others are
            print(f"{held}, {rows} rows, {label}: {type(error).__name__}", flush=True)
    return times


def _tiles(rows: int, item_bytes: int) -> Iterator[Tile]:
    for features, num_bytes, num_warps, num_stages in _CUTS:
        yield Tile(8 if rows <= 8 else 16, features, num_bytes // item_bytes, num_warps, num_stages)
    if rows == 1:
        for features, num_bytes, num_warps, num_stages in _SUMMED_CUTS:
            yield Tile(1, features, num_bytes // item_bytes, num_warps, num_stages)


def _weights(
    dtype: torch.dtype, features: int, inputs: int, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    count = max(2, -(-_COLD_BYTES // (features * inputs * dtype.itemsize))) if device.type == "cuda" else 2
    numbers = [torch.randn(features, inputs, device=device, dtype=torch.bfloat16) for _ in range(count)]
    if dtype == torch.bfloat16:
        return [(weight, None) for weight in numbers]
    scale = torch.full((features, 1), 0.05, device=device)
    return [((weight * 20).clamp(-127, 127).to(dtype), scale) for weight in numbers]


@torch.inference_mode()
def _us(
    work: Callable[[torch.Tensor, torch.Tensor | None], object],
    weights: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
) -> float:
    def all_of_them() -> None:
        for weight, scale in weights:
            work(weight, scale)

    device = weights[0][0].device
    timed = captured(all_of_them, all_of_them) if device.type == "cuda" else all_of_them
    return round(1e6 * median_seconds(timed, device, repeats=7) / len(weights), 2)
