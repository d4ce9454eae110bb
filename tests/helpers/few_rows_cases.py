"""The cases of the kernels for few and for many rows. Run as a script, with TRITON_INTERPRET=1 on a machine without a
GPU, it prints {case name: relative error} as JSON. Triton decides when it is imported whether to interpret, so the test
process itself cannot. The repository's root must be on PYTHONPATH."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.engine.products.tiles import Format, ManyRowsTile, Tile

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
_LARGEST = {"int8": 127.0, "fp8": 448.0}


@dataclass(frozen=True)
class Case:
    """`rows` times a weight (features, inputs) held in a format, computed by a tile."""

    held: Format
    rows: int
    features: int
    inputs: int
    tile: Tile | ManyRowsTile
    has_bias: bool = False
    is_strided: bool = False  # rows and weight are parts of larger tensors

    @property
    def name(self) -> str:
        summed = " summed" if isinstance(self.tile, Tile) and self.tile.is_summed else ""
        summed += f", {self.tile.splits} splits" if isinstance(self.tile, ManyRowsTile) and self.tile.splits > 1 else ""
        tile = f"{self.tile.rows}x{self.tile.features}x{self.tile.inputs}{summed}, {self.tile.num_warps} warps"
        more = f"{', bias' if self.has_bias else ''}{', strided' if self.is_strided else ''}"
        return f"{self.held}, {self.rows} rows, {self.features}x{self.inputs}, {tile}{more}"


_FORMATS: tuple[Format, ...] = ("16 bits", "int8", "fp8")
_TILES = (
    Tile(1, 16, 32, 4, 2, is_summed=True),
    Tile(1, 16, 32, 4, 2),
    Tile(8, 16, 32, 4, 3),
    Tile(16, 32, 16, 2, 2),
)
FEW_ROWS_CASES = [
    Case(held, rows, features, inputs, tile, has_bias=rows % 2 == 0, is_strided=features == 45)
    for held in _FORMATS
    for tile in _TILES
    for rows in {1, tile.rows // 2, tile.rows - 1, tile.rows} - {0}
    for features, inputs in ((48, 256), (45, 200), (7, 33))  # full tiles; neither is full; less than one
]

MANY_ROWS_CASES = [
    Case("int8", rows, features, inputs, tile, has_bias=rows % 2 == 0, is_strided=features == 45)
    for tile in (
        ManyRowsTile(32, 16, 32, 4, 3),
        ManyRowsTile(64, 64, 16, 4, 2),
        ManyRowsTile(32, 32, 32, 4, 2, splits=3),
    )
    for rows, features, inputs in ((17, 45, 200), (64, 64, 256), (130, 75, 33))
]
CASES = [*FEW_ROWS_CASES, *MANY_ROWS_CASES]


def operands(
    case: Case, dtype: torch.dtype, device: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Inputs, weight, scale and bias of a case."""
    torch.manual_seed(case.rows)
    inputs = _laid_out(torch.randn(case.rows, case.inputs, device=device).to(dtype), case)
    exact = torch.randn(case.features, case.inputs, device=device)
    bias = torch.randn(case.features, device=device).to(dtype) if case.has_bias else None
    if case.held == "16 bits":
        return inputs, _laid_out(exact.to(dtype), case), None, bias
    scale = exact.abs().amax(1, keepdim=True) / _LARGEST[case.held]
    weight = (exact / scale).round().to(torch.int8) if case.held == "int8" else (exact / scale).to(torch.float8_e4m3fn)
    return inputs, _laid_out(weight, case), scale, bias


def _laid_out(matrix: torch.Tensor, case: Case) -> torch.Tensor:
    if not case.is_strided:
        return matrix
    larger = matrix.new_empty(len(matrix), matrix.shape[1] + 16)
    part = larger[:, : matrix.shape[1]]
    return part.copy_(matrix)


def error_of(case: Case, dtype: torch.dtype, device: str) -> float:
    """Relative error of the tile's kernel against float64; NaN where part of the output was not written."""
    from evaluation.toolbench.inference.engine.products.triton_few_rows import few_rows_product
    from evaluation.toolbench.inference.engine.products.triton_many_rows import many_rows_product

    inputs, weight, scale, bias = operands(case, dtype, device)
    expected = inputs.double() @ (weight.double() if scale is None else weight.double() * scale.double()).t()
    if bias is not None:
        expected = expected + bias.double()
    out = torch.full((case.rows, case.features), float("nan"), device=device, dtype=dtype)
    if isinstance(case.tile, ManyRowsTile):
        assert scale is not None
        many_rows_product(inputs, weight, scale, bias, out, case.tile)
    else:
        few_rows_product(inputs, weight, scale, bias, out, case.tile)
    return float((out.double() - expected).norm() / expected.norm())


if __name__ == "__main__":
    # Triton's interpreter keeps bfloat16 as integers and cannot multiply them: that type is for the GPU.
    dtypes = (torch.float32, torch.float16)
    json.dump({f"{case.name}, {dtype}": error_of(case, dtype, "cpu") for case in CASES for dtype in dtypes}, sys.stdout)
