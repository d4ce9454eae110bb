"""Times the paged attention kernels against PyTorch's own attention, in one run on one GPU.

    python -m benchmarks.attention_kernels [--shape 8b|qwen3b] [--page_size 64] [--sweep]

Every number is the time of one layer: all layers of the model run one after another, each with its own
cache as in a model, so that the L2 cache helps no more than it would there, and all in one CUDA graph, so
that launches cost little. The anchors read keys and values that lie contiguous, which a paged cache cannot offer;
"gathered" adds the copy that makes them so; "8-bit pages" have half as many bytes. A share is that of the time which
the bytes (each key, value, query and output once) and the operations take at the rates measured on the spot. The last
line on stdout is JSON. `--sweep` also times other tiles and splits than those the kernels choose.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention_steps import SHAPES, Shape, Work, page_tables, works
from benchmarks.ceilings import Ceilings, captured, describe_machine, measure_ceilings, median_seconds
from evaluation.toolbench.inference.engine.attention import paged_attention, reference, varlen, write_kv
from evaluation.toolbench.inference.engine.kernels.float8 import Scales, quantize

_DTYPE = torch.bfloat16
# Tokens of the context, warps, load stages; for prefill the rows of a tile first.
_DECODE_TILES = (
    *((32, 2, 3), (32, 4, 4), (64, 4, 2), (64, 4, 3), (64, 4, 4), (64, 4, 5), (64, 4, 7), (64, 8, 3), (64, 8, 5)),
    *((128, 4, 3), (128, 8, 3)),
)
_PREFILL_TILES = ((64, 32, 4, 3), (64, 64, 4, 3), (128, 32, 8, 3), (128, 64, 8, 2), (128, 64, 8, 3), (128, 128, 8, 2))


class Layers:
    """Holds the tensors of `work` on the GPU: pages and queries for every layer, tables for all of them."""

    def __init__(self, work: Work, shape: Shape, page_size: int, device: torch.device) -> None:
        self.work, self.shape, self.device = work, shape, device
        tables, num_pages = page_tables(work, page_size)
        self.max_q, self.max_k = max(work.new_tokens), max(work.contexts)
        self.total_k, self.scale = sum(work.contexts), shape.head_dim**-0.5
        self.num_decodes = sum(1 for _ in itertools.takewhile(lambda n: n == 1, work.new_tokens))

        width = max(len(table) for table in tables)
        padded = [table + [0] * (width - len(table)) for table in tables]
        self.block_tables = torch.tensor(padded, dtype=torch.int32, device=device)
        self.context_lens = torch.tensor(work.contexts, dtype=torch.int32, device=device)
        self.starts_q, self.starts_k = (
            torch.tensor([0, *itertools.accumulate(counts)], dtype=torch.int32, device=device)
            for counts in (work.new_tokens, work.contexts)
        )
        self.prompt_starts = self.starts_q[self.num_decodes :] - self.num_decodes
        if device.type == "cuda":
            self.side_stream = torch.cuda.Stream(priority=-1)  # its programs start first
        slots = [
            table[i // page_size] * page_size + i % page_size
            for table, context in zip(tables, work.contexts, strict=True)
            for i in range(context)
        ]
        self.slots = torch.tensor(slots, device=device)  # of every token of every context

        # Room for the contexts one after another too, for the anchors that read them so.
        pages = max(num_pages, -(-self.total_k // page_size))
        kv_size = (shape.num_layers, pages, page_size, shape.num_kv_heads, shape.head_dim)
        self.k, self.v = (torch.empty(kv_size, dtype=_DTYPE, device=device).normal_() for _ in range(2))
        q_size = (shape.num_layers, sum(work.new_tokens), shape.num_heads, shape.head_dim)
        self.q = torch.randn(q_size, dtype=_DTYPE, device=device)
        self.kv_scales: list[Scales] | list[None] = [None] * shape.num_layers

    def in_float8(self) -> Layers:
        """Return the same layers with their keys and values in 8 bits."""
        layers = copy.copy(self)
        layers.k, k_scales = _quantized(self.k)
        layers.v, v_scales = _quantized(self.v)
        layers.kv_scales = list(zip(k_scales, v_scales, strict=True))
        return layers

    def arguments(self, layer: int) -> tuple[Any, ...]:
        """Return the arguments of `paged_attention`."""
        tables = self.block_tables, self.context_lens, self.starts_q, self.max_q, self.scale
        return self.q[layer], self.k[layer], self.v[layer], *tables

    def contiguous(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return as many keys and values as the contexts have, (total_k, Hkv, D) each, in no meaningful order."""
        return self.k[layer].flatten(0, 1)[: self.total_k], self.v[layer].flatten(0, 1)[: self.total_k]

    def gathered(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return copies of the contexts' keys and values, one after another."""
        return self.k[layer].flatten(0, 1)[self.slots], self.v[layer].flatten(0, 1)[self.slots]


def _quantized(pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes and scales of all layers, as the engine's cache holds them; made layer by layer, in float32."""
    codes = torch.empty_like(pages, dtype=torch.uint8)
    scales = torch.empty(*pages.shape[:2], pages.shape[3], pages.shape[2], device=pages.device).transpose(2, 3)
    for layer, held in enumerate(pages):
        codes[layer], scales[layer] = quantize(held)
    return codes, scales


Attention = Callable[[Layers, int], object]


def implementations(work: Work) -> dict[str, Attention]:
    """Return ours first, then the anchors that can do this work with this version of PyTorch."""
    found: dict[str, Attention] = {"ours, paged": _ours}
    if not work.is_decode and 1 in work.new_tokens:
        found["ours, side by side"] = _side_by_side
        found["ours, in one call"] = lambda x, i: paged_attention(*x.arguments(i), implementation="triton")
    found["varlen, contiguous"] = lambda x, i: _varlen(x, x.q[i], *x.contiguous(i))
    found["varlen, gathered"] = lambda x, i: _varlen(x, x.q[i], *x.gathered(i))
    if "block_table" in inspect.signature(_varlen_attn()).parameters:
        found["varlen, paged"] = _varlen_paged
    if len(set(work.contexts)) == 1 and (work.is_decode or work.is_fresh):
        found["SDPA, contiguous"] = _sdpa
    return found


def _ours(layers: Layers, i: int) -> torch.Tensor:
    """Decodes by one call, prompts by another, one after the other."""
    out = torch.empty_like(layers.q[i])
    if layers.num_decodes:
        _decodes(layers, i, out)
    if layers.num_decodes < len(layers.work.contexts):
        _prompts(layers, i, out)
    return out


def _side_by_side(layers: Layers, i: int) -> torch.Tensor:
    """Run as the engine does: prompts, few programs that take long, beside decodes, many that wait for memory."""
    out = torch.empty_like(layers.q[i])
    main = torch.cuda.current_stream()
    layers.side_stream.wait_stream(main)
    with torch.cuda.stream(layers.side_stream):
        _prompts(layers, i, out)
    _decodes(layers, i, out)
    main.wait_stream(layers.side_stream)
    return out


def _decodes(layers: Layers, i: int, out: torch.Tensor) -> None:
    n = layers.num_decodes
    q, k, v, tables, contexts, starts, _, scale = layers.arguments(i)
    rows = tables[:n], contexts[:n], starts[: n + 1], 1
    scales = layers.kv_scales[i]
    paged_attention(q[:n], k, v, *rows, scale, out[:n], kv_scales=scales, implementation="triton")


def _prompts(layers: Layers, i: int, out: torch.Tensor) -> None:
    n = layers.num_decodes
    q, k, v, tables, contexts, _, max_q, scale = layers.arguments(i)
    rows = tables[n:], contexts[n:], layers.prompt_starts, max_q
    scales = layers.kv_scales[i]
    paged_attention(q[n:], k, v, *rows, scale, out[n:], kv_scales=scales, implementation="triton")


def _varlen_attn() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


def _varlen(layers: Layers, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    options = {"scale": layers.scale, "window_size": (-1, 0), **varlen.grouped_query_option()}
    return _varlen_attn()(q, k, v, layers.starts_q, layers.starts_k, layers.max_q, layers.max_k, **options)


def _varlen_paged(layers: Layers, i: int) -> Any:
    options = {"scale": layers.scale, "window_size": (-1, 0), **varlen.grouped_query_option()}
    options |= {"seqused_k": layers.context_lens, "block_table": layers.block_tables}
    starts = layers.starts_q, None, layers.max_q, layers.max_k
    return _varlen_attn()(layers.q[i], layers.k[i], layers.v[i], *starts, **options)


def _sdpa(layers: Layers, i: int) -> torch.Tensor:
    """Attend to equal contexts as one dense batch; in decode a group's heads are queries of one KV head: no mask."""
    rows, heads = len(layers.work.contexts), layers.shape.num_kv_heads
    k, v = (kv.unflatten(0, (rows, -1)).transpose(1, 2) for kv in layers.contiguous(i))
    q = layers.q[i].unflatten(0, (rows, -1))
    if layers.work.is_decode:
        return scaled_dot_product_attention(q.squeeze(1).unflatten(1, (heads, -1)), k, v)
    return scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=True, enable_gqa=True)


def layer_seconds(layers: Layers, attend: Attention) -> float:
    """Return seconds of one layer, with all layers in one CUDA graph."""
    count = layers.shape.num_layers

    def attend_all() -> None:
        for i in range(count):
            attend(layers, i)

    return median_seconds(captured(attend_all, lambda: attend(layers, 0)), layers.device) / count


def relative_error(layers: Layers) -> float:
    """Return ‖ours - exact‖ / ‖exact‖, exact being plain PyTorch in float32."""
    q, k, v, *rest = layers.arguments(0)
    scales = layers.kv_scales[0]
    if scales is None:
        k, v = k.float(), v.float()
    exact = reference.paged_attention(q.float(), k, v, *rest, kv_scales=scales)
    return float((_ours(layers, 0).float() - exact).norm() / exact.norm())


def other_cuts(work: Work) -> Iterator[tuple[str, Attention]]:
    """Yield the kernels with other tiles, and decode with other numbers of parts, than they choose."""
    from evaluation.toolbench.inference.engine.attention import triton_decode, triton_prefill

    if work.is_decode:
        for tokens, warps, stages in _DECODE_TILES:
            decode_tile = triton_decode.Tile(tokens, warps, stages)
            for splits in (1, 2, 4, 8, 16, 32):
                yield f"{splits} parts, {tokens}, {warps}, {stages}", _decode_with(decode_tile, splits)
    else:
        for rows, tokens, warps, stages in _PREFILL_TILES:
            prefill_tile = triton_prefill.Tile(rows, tokens, warps, stages)
            yield f"{rows}x{tokens}, {warps}, {stages}", _prefill_with(prefill_tile)


def _decode_with(tile: Any, num_splits: int) -> Attention:
    from evaluation.toolbench.inference.engine.attention.triton_decode import paged_decode

    def attend(layers: Layers, i: int) -> None:
        q, k, v, tables, contexts, _, _, scale = layers.arguments(i)
        out, scales = torch.empty_like(q), layers.kv_scales[i]
        paged_decode(q, k, v, tables, contexts, scale, out, scales, num_splits=num_splits, tile=tile)

    return attend


def _prefill_with(tile: Any) -> Attention:
    from evaluation.toolbench.inference.engine.attention.triton_prefill import paged_prefill

    def attend(layers: Layers, i: int) -> None:
        q, k, v, tables, contexts, starts, _, scale = layers.arguments(i)
        paged_prefill(q, k, v, tables, contexts, starts, scale, torch.empty_like(q), layers.kv_scales[i], tile=tile)

    return attend


def row_of(
    work: Work, name: str, seconds: float, ours: float, shape: Shape, ceilings: Ceilings, *, is_float8: bool = False
) -> dict[str, Any]:
    """Return one line of the results; `ratio` is how many times our time it took, in 16 bits."""
    num_bytes, flop = work.num_bytes(shape, is_float8=is_float8), work.flop(shape)
    return {
        "work": work.name,
        "attention": name,
        "us": round(seconds * 1e6, 2),
        "ratio": round(seconds / ours, 2),
        "GB/s": round(num_bytes / seconds / 1e9),
        "TFLOP/s": round(flop / seconds / 1e12, 1),
        "share": round(ceilings.seconds(num_bytes, flop) / seconds, 3),
    }


def show(row: dict[str, Any]) -> None:
    """Print one line of the table."""
    cells = f"{row['us']:>9.1f} {row['ratio']:>6.2f} {row['GB/s']:>6} {row['TFLOP/s']:>8} {row['share']:>6.0%}"
    print(f"{row['work']:<30} {row['attention']:<24} {cells}", flush=True)


def benchmark_write(shape: Shape, page_size: int, device: torch.device, *, is_float8: bool = False) -> float:
    """Return seconds of storing the new keys and values of 64 decodes in one layer."""
    work = Work("write 64", (1800,) * 64, (1,) * 64)
    layers = Layers(work, shape, page_size, device)
    if is_float8:
        layers = layers.in_float8()
    new = torch.randn(2, 64, shape.num_kv_heads, shape.head_dim, dtype=_DTYPE, device=device)
    slots = layers.slots[1799::1800]
    return layer_seconds(layers, lambda x, i: write_kv(new[0], new[1], x.k[i], x.v[i], slots, kv_scales=x.kv_scales[i]))


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description="Times paged attention against PyTorch's own, on one GPU.")
    parser.add_argument("--shape", choices=SHAPES, default="8b", help="of the model (default: %(default)s)")
    parser.add_argument("--page_size", type=int, default=64, help="tokens of a page (default: %(default)s)")
    parser.add_argument("--sweep", action="store_true", help="also time other tiles and splits")
    parser.add_argument("--only", default="", help="only work whose name contains this")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.attention_kernels needs a CUDA GPU; none is visible")
    device, shape = torch.device("cuda"), SHAPES[args.shape]
    ceilings = measure_ceilings(device)
    print(f"{date.today()}, {describe_machine(device)}; {ceilings}; {shape}, pages of {args.page_size}")
    print(f"{'work':<30} {'attention':<24} {'us/layer':>9} {'ratio':>6} {'GB/s':>6} {'TFLOP/s':>8} {'share':>6}")
    rows, errors = [], {}
    for work in works():
        if args.only not in work.name:
            continue
        layers = Layers(work, shape, args.page_size, device)
        errors[work.name] = relative_error(layers)
        ours = layer_seconds(layers, _ours)
        for name, attend in implementations(work).items():
            try:
                seconds = ours if attend is _ours else layer_seconds(layers, attend)
            except (RuntimeError, TypeError) as error:  # an anchor that this version of PyTorch cannot run
                print(f"{work.name:<30} {name:<24} {str(error).splitlines()[0]}")
                continue
            rows.append(row_of(work, name, seconds, ours, shape, ceilings))
            show(rows[-1])
        in_float8 = layers.in_float8()
        name = "ours, 8-bit pages"
        errors[f"{work.name}, 8-bit pages"] = relative_error(in_float8)
        rows.append(row_of(work, name, layer_seconds(in_float8, _ours), ours, shape, ceilings, is_float8=True))
        show(rows[-1])
        if args.sweep:
            for held, mark in ((layers, ""), (in_float8, "8-bit: ")):
                cuts = sorted((layer_seconds(held, attend), name) for name, attend in other_cuts(work))
                for seconds, name in cuts[:4]:
                    show(row_of(work, f"  {mark}{name}", seconds, ours, shape, ceilings, is_float8=bool(mark)))
        del layers, in_float8
        torch.cuda.empty_cache()
    write_us, float8_us = (
        benchmark_write(shape, args.page_size, device, is_float8=is_float8) * 1e6 for is_float8 in (False, True)
    )
    print(
        f"write of 64 tokens: {write_us:.1f} us/layer, in 8 bits {float8_us:.1f}; largest relative error "
        f"{max(errors.values(), default=0):.1e}"
    )
    writes = {"write_64_us": write_us, "write_64_float8_us": float8_us}
    print(json.dumps({"rows": rows, "relative_errors": errors, **writes}))


if __name__ == "__main__":
    main()
