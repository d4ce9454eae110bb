"""Measures what the matrix products of a step cost, by the number of its rows: each layer's by themselves, and joined.

    python -m benchmarks.matrix_products          # ToolGen-Llama-3-8B's shape on a GPU: half a minute
    python -m benchmarks.matrix_products --tiny   # tries the command on the CPU
    python -m benchmarks.matrix_products --few_rows   # the kernel for 1 to 16 rows beside cuBLAS: see `few_rows`
    python -m benchmarks.matrix_products --int8_rows  # that for more rows and int8, a minute: see `int8_rows`

A few layers run one after another in one CUDA graph, each with weights of its own, so that the L2 cache helps no
more than in a model; times are scaled to all 32 layers. Then the output embedding, whole and in two pieces. JSON last.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import date

import torch
from torch import nn

from benchmarks import few_rows, int8_rows
from benchmarks.ceilings import captured, describe_machine, measure_ceilings, median_seconds
from evaluation.toolbench.inference.engine.paged.execution.joined_linear import JoinedLinear
from evaluation.toolbench.inference.engine.paged.execution.output_head import OutputHead

ROWS = (64, 128, 192, 256, 288, 320, 384, 416, 448, 512, 576, 640, 768, 896, 1024, 1152, 1280, 1536, 2048)
HEAD_ROWS = (1, 16, 64, 128)
_MODEL_LAYERS, _TIMED_LAYERS = 32, 6

Layer = Sequence[Sequence[nn.Module]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small matrices on the CPU")
    parser.add_argument("--few_rows", action="store_true", help="the kernel for few rows, with each of its tiles")
    parser.add_argument("--int8_rows", action="store_true", help="the kernel for more rows and weights of int8")
    args = parser.parse_args(argv)
    is_tiny = args.tiny
    sweeps = [sweep for sweep, is_asked in ((few_rows, args.few_rows), (int8_rows, args.int8_rows)) if is_asked]
    if sweeps and is_tiny:
        parser.error("--few_rows and --int8_rows are for a GPU")
    if not is_tiny and not torch.cuda.is_available():
        print("needs 1 GPU, found 0: give --tiny to try the command", file=sys.stderr)
        return 2
    device = torch.device("cpu" if is_tiny else "cuda")
    for sweep in sweeps:
        print(f"{date.today()}, {describe_machine(device)}; {measure_ceilings(device)}", flush=True)
        found = sweep.sweep(device)
        print(sweep.table(found))
        print(json.dumps([few_rows.record(times) for times in found]))
    if sweeps:
        return 0
    hidden, kv, wide, vocabulary = (64, 16, 224, 1001) if is_tiny else (4096, 1024, 14336, 175241)
    print(f"{date.today()}, {describe_machine(device)}", flush=True)
    with torch.inference_mode():
        layers = [_layer(hidden, kv, wide, device) for _ in range(_TIMED_LAYERS)]
        weights = [group[0].weight for group in layers[0]]
        separate = {rows: _layers_ms(layers, weights, rows) for rows in ROWS}
        joined_layers = [_joined(layer) for layer in layers]
        joined = {rows: _layers_ms(joined_layers, weights, rows) for rows in ROWS}
        head = _linear(hidden, vocabulary, device)
        whole = {rows: _ms(head, _inputs(head.weight, rows)) for rows in HEAD_ROWS}
        in_pieces = OutputHead(head, device, vocab_size=vocabulary, max_rows=max(HEAD_ROWS))
        pieces = {rows: _ms(in_pieces.compute, _inputs(head.weight, rows)) for rows in HEAD_ROWS}
    print("rows of a step   separate ms   joined ms")
    for rows in ROWS:
        print(f"{rows:>14}   {separate[rows]:>11.2f}   {joined[rows]:>9.2f}")
    print("rows drawn from   whole ms   in pieces ms")
    for rows in HEAD_ROWS:
        print(f"{rows:>15}   {whole[rows]:>8.3f}   {pieces[rows]:>12.3f}")
    print(json.dumps({"separate_ms": separate, "joined_ms": joined, "head_whole_ms": whole, "head_pieces_ms": pieces}))
    return 0


def _layer(hidden: int, kv: int, wide: int, device: torch.device) -> list[list[nn.Linear]]:
    """Return the linear layers of a decoder layer: those in one list are given the same tensor."""
    attention = [[(hidden, hidden), (hidden, kv), (hidden, kv)], [(hidden, hidden)]]
    shapes = [*attention, [(hidden, wide)] * 2, [(wide, hidden)]]
    return [[_linear(inputs, outputs, device) for inputs, outputs in group] for group in shapes]


def _joined(layer: Sequence[Sequence[nn.Linear]]) -> Layer:
    return [JoinedLinear(group).parts() if len(group) > 1 else group for group in layer]


def _linear(inputs: int, outputs: int, device: torch.device) -> nn.Linear:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return nn.Linear(inputs, outputs, bias=False, device=device, dtype=dtype)


def _inputs(weight: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.randn(rows, weight.shape[1], device=weight.device, dtype=weight.dtype)


def _layers_ms(layers: Sequence[Layer], weights: Sequence[torch.Tensor], rows: int) -> float:
    """Time all layers of the model, in ms; `weights` has one of each group's."""
    given = [_inputs(weight, rows) for weight in weights]

    def run(_: torch.Tensor) -> None:
        for layer in layers:
            for group, inputs in zip(layer, given, strict=True):
                for linear in group:
                    linear(inputs)

    return round(_ms(run, given[0]) * _MODEL_LAYERS / len(layers), 2)


def _ms(work: Callable[[torch.Tensor], object], inputs: torch.Tensor) -> float:
    def once() -> object:
        return work(inputs)

    timed = captured(once, once) if inputs.is_cuda else once
    return round(1e3 * median_seconds(timed, inputs.device), 3)


if __name__ == "__main__":
    sys.exit(main())
