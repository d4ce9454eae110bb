"""Times the attention of prompts in steps like those of an agent's run: alone, and beside the decodes of such a step.

    python -m benchmarks.prompt_attention [--shape 8b] [--decodes 128] [--only WORD] [--all]

Prints microseconds of one layer for the kernel's tiles, with contexts whole and cut into parts. "alone" is the prompts'
kernel by itself, "beside" both kernels on two streams as the engine runs them, and "first" the same where the prompts'
stream has priority. What counts in a run is "beside" less "decodes", which are timed by themselves. The share is that
of the card's rate for matrix products, measured on the spot, which "alone" reaches. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import torch

from benchmarks.attention_kernels import Layers, layer_seconds
from benchmarks.attention_steps import SHAPES, Shape, Work
from benchmarks.ceilings import describe_machine, measure_ceilings
from evaluation.toolbench.inference.engine.attention import paged_attention
from evaluation.toolbench.inference.engine.kernels.hardware import num_multiprocessors

_NUM_LAYERS = 8  # enough that nothing stays in the L2 cache from one replay to the next
# Rows of a tile, tokens of the context, warps, load stages, registers of a thread. A decode's program needs 10,240 of a
# multiprocessor's 65,536 registers: beside the first tile there is room for none or one, beside one with 128 for three.
_TILES = (
    *((128, 64, 8, 3, None), (128, 64, 8, 5, None), (128, 64, 8, 3, 168), (128, 32, 8, 3, None)),
    *((128, 32, 8, 3, 128), (128, 32, 8, 5, 128), (64, 64, 4, 3, None), (64, 32, 4, 4, 128)),
)
_ROUNDS = (1, 2, 4)  # programs, in multiples of what runs at once


@dataclass(frozen=True)
class Prompts:
    """Lists the prompts of a step: contexts, the new tokens included, and how many are new."""

    name: str
    contexts: tuple[int, ...]
    new_tokens: tuple[int, ...]

    def beside(self, num_decodes: int) -> Work:
        """Return the step with decodes of 600 to 2,300 tokens before the prompts."""
        contexts = tuple(random.Random(0).randint(600, 2300) for _ in range(num_decodes))
        return Work(self.name, contexts + self.contexts, (1,) * num_decodes + self.new_tokens)


STEPS = (
    Prompts("3 x 256 of 600, 1200, 2300", (600, 1200, 2300), (256,) * 3),
    Prompts("16 x 48 of 800..2400", tuple(800 + 1600 * i // 15 for i in range(16)), (48,) * 16),
    Prompts("10 x 100, fresh", (100,) * 10, (100,) * 10),
    Prompts("1 x 448 of 1500", (1500,), (448,)),
    Prompts("1 x 208 of 1800", (1800,), (208,)),
    Prompts("4 x 8 of 1800", (1800,) * 4, (8,) * 4),
)


def cuts(prompts: Prompts, shape: Shape, device: torch.device, *, with_all: bool) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, tile and split: what the kernel chooses, each tile whole, the first tiles (or all) cut into parts."""
    from evaluation.toolbench.inference.engine.attention.triton_prefill import Tile
    from evaluation.toolbench.inference.engine.attention.triton_split import WHOLE, Split

    yield "as chosen", None, None
    total = sum(prompts.new_tokens)
    for numbers in _TILES:
        tile = Tile(*numbers)
        limit = f", {tile.max_registers}" if tile.max_registers else ""
        yield f"{tile.rows}x{tile.tokens}, {tile.num_warps}, {tile.num_stages}{limit}", tile, WHOLE
        if numbers != _TILES[0] and not with_all:
            continue
        num_tiles = -(-total * shape.num_heads // (shape.num_kv_heads * tile.rows))
        for rounds in _ROUNDS:
            programs = rounds * num_multiprocessors(device) * tile.at_once // shape.num_kv_heads
            if programs > num_tiles:
                parts = min(8, 2 * (programs // num_tiles))
                yield f"  {rounds} rounds, {parts} parts", tile, Split(programs, parts)


def attend_prompts(layers: Layers, i: int, out: torch.Tensor, tile: Any, split: Any) -> None:
    """Run the prompts' kernel of layer `i`."""
    from evaluation.toolbench.inference.engine.attention.triton_prefill import paged_prefill

    n = layers.num_decodes
    q, k, v, tables, contexts, _, _, scale = layers.arguments(i)
    rows = tables[n:], contexts[n:], layers.prompt_starts
    paged_prefill(q[n:], k, v, *rows, scale, out[n:], layers.kv_scales[i], tile=tile, split=split)


def attend_decodes(layers: Layers, i: int, out: torch.Tensor) -> None:
    """Run the decodes' kernels of layer `i`."""
    n = layers.num_decodes
    q, k, v, tables, contexts, starts, _, scale = layers.arguments(i)
    rows = tables[:n], contexts[:n], starts[: n + 1], 1
    paged_attention(q[:n], k, v, *rows, scale, out[:n], kv_scales=layers.kv_scales[i], implementation="triton")


def microseconds(layers: Layers, tile: Any, split: Any, stream: torch.cuda.Stream | None, *, alone: bool) -> float:
    """Return the time of one layer; with a stream, prompts run there and decodes where we are."""
    out = torch.empty_like(layers.q[0])

    def attend(layers: Layers, i: int) -> None:
        main = torch.cuda.current_stream()
        if stream is not None:
            stream.wait_stream(main)
        with torch.cuda.stream(stream):
            attend_prompts(layers, i, out, tile, split)
        if not alone:
            attend_decodes(layers, i, out)
        if stream is not None:
            main.wait_stream(stream)

    return 1e6 * layer_seconds(layers, attend)


def difference(layers: Layers, tile: Any, split: Any) -> float:
    """Return ‖result - that of whole contexts‖ / ‖that‖."""
    from evaluation.toolbench.inference.engine.attention.triton_split import WHOLE

    found, whole = (torch.zeros_like(layers.q[0]) for _ in range(2))
    attend_prompts(layers, 0, found, tile, split)
    attend_prompts(layers, 0, whole, None, WHOLE)
    return float((found.float() - whole.float()).norm() / whole.float().norm())


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Times the attention of prompts, alone and beside decodes.")
    parser.add_argument("--shape", choices=SHAPES, default="8b", help="of the model (default: %(default)s)")
    parser.add_argument("--page_size", type=int, default=64, help="tokens of a page (default: %(default)s)")
    parser.add_argument("--decodes", type=int, default=128, help="decodes beside the prompts")
    parser.add_argument("--only", default="", help="only steps whose name contains this")
    parser.add_argument("--all", action="store_true", help="cut contexts with every tile, not the first alone")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.prompt_attention needs a CUDA GPU; none is visible")
    device, shape = torch.device("cuda"), replace(SHAPES[args.shape], num_layers=_NUM_LAYERS)
    ceilings = measure_ceilings(device)
    streams = {"beside": torch.cuda.Stream(), "first": torch.cuda.Stream(priority=-1)}
    print(f"{date.today()}, {describe_machine(device)}; {ceilings}; {shape}, pages of {args.page_size}")
    print(f"{'prompts':<28} {'cut':<24} {'alone':>7} {'share':>6} {'beside':>8} {'first':>8} {'decodes':>8}")
    rows: list[dict[str, Any]] = []
    for prompts in STEPS:
        if args.only not in prompts.name:
            continue
        layers = Layers(prompts.beside(args.decodes), shape, args.page_size, device)
        flop = Work(prompts.name, prompts.contexts, prompts.new_tokens).flop(shape)
        out = torch.empty_like(layers.q[0])
        decodes = 1e6 * layer_seconds(layers, lambda x, i, out=out: attend_decodes(x, i, out))  # type: ignore[misc]
        for name, tile, split in cuts(prompts, shape, device, with_all=args.all):
            alone = microseconds(layers, tile, split, None, alone=True)
            both = {key: microseconds(layers, tile, split, stream, alone=False) for key, stream in streams.items()}
            share = 1e6 * flop / alone / ceilings.flop_per_s
            row = {"prompts": prompts.name, "cut": name, "alone": alone, "share": share, **both, "decodes": decodes}
            rows.append(row | {"difference": difference(layers, tile, split)})
            print(
                f"{prompts.name:<28} {name:<24} {alone:>7.1f} {share:>6.0%} {both['beside']:>8.1f} "
                f"{both['first']:>8.1f} {decodes:>8.1f}",
                flush=True,
            )
        del layers
        torch.cuda.empty_cache()
    print(f"largest relative difference from whole contexts: {max((row['difference'] for row in rows), default=0):.1e}")
    print(json.dumps({"rows": rows, "shape": asdict(shape)}))


if __name__ == "__main__":
    main()
