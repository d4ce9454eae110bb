"""Measures the paged engine in several variants and with several numbers of conversations, over one model.

    python -m benchmarks.paged_engine                                  # the 8B model's shape, on a GPU
    python -m benchmarks.paged_engine --variants default,uncompiled,restricted --conversations 1,16,64 --profile
    python -m benchmarks.paged_engine --gpus 2 --conversations 64 --profile   # the model's layers over two GPUs
    python -m benchmarks.paged_engine --gpus 3 --gpu_gib 20 --conversations 64,128   # as over three 24 GB cards
    python -m benchmarks.paged_engine --weights auto,int8,fp8 --kv_cache auto,fp8 --conversations 1,16,64,128
    python -m benchmarks.paged_engine --weights fp8 --gpu_gib 20   # what one of three 24 GB cards gives
    python -m benchmarks.paged_engine --weights auto,fp8 --gpus 3 --gpu_gib 20   # one model over the three
    python -m benchmarks.paged_engine --tiny                           # a CPU, beside the generate engine

The workload, the limit and the measurement are those of `agent_workload`. Each measurement is a JSON line as
soon as it is there; a table of all of them, with the anchors, comes last. Of several formats a KV cache in 8 bits is
measured with weights in "fp8", where those are asked for, and otherwise with all.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
import torch._dynamo as dynamo
from transformers import PreTrainedModel

from benchmarks.agent_workload import Limit, limit_of, measure, summary
from benchmarks.ceilings import describe_machine, measure_ceilings
from benchmarks.conversations import Conversation, make_conversation
from benchmarks.gpu_profile import gpu_time_table
from benchmarks.multi_gpu_bench import budget_of
from benchmarks.random_model import SHAPES, TOOL_TOKENS, costs_of, make_model, weight_formats
from benchmarks.spread_model import plan, spread
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE
from evaluation.toolbench.inference.engine.request import Engine
from evaluation.toolbench.inference.multi_gpu.expectation import Expectation
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget
from evaluation.toolbench.inference.multi_gpu.units import GIB

# Queries a minute on one H200 with this workload and the 8B shape, by conversations in flight.
ANCHORS = {
    "transformers 5.17, FlashAttention-3": {1: 12.9, 16: 106.0, 64: 189.0},
    "vLLM 0.26": {1: 22.3, 16: 237.0, 64: 463.0, 128: 544.0},
}


@dataclass(frozen=True)
class Variant:
    """Names an engine, its options, and whether actions are held to the tool tokens."""

    engine: str
    options: dict[str, Any]
    is_restricted: bool = False


VARIANTS = {
    "default": Variant("paged", {"capture_at_start": True}),
    "restricted": Variant("paged", {"capture_at_start": True}, is_restricted=True),
    "uncompiled": Variant("paged", {"compile_layers": False, "capture_at_start": True}),
    "cublas": Variant("paged", {"few_rows": False, "capture_at_start": True}),
    "all-tokens": Variant("paged", {"thin_last_layer": False, "capture_at_start": True}),
    "separate": Variant("paged", {"join_linears": False, "capture_at_start": True}),
    "small-steps": Variant("paged", {"max_prefill_tokens": 192, "capture_at_start": True}),
    "medium-steps": Variant("paged", {"max_prefill_tokens": 448, "capture_at_start": True}),
    "large-steps": Variant("paged", {"max_prefill_tokens": 768, "capture_at_start": True}),
    "eager": Variant("paged", {"use_graphs": False}),
    "in-turn": Variant("paged", {"overlap": False, "capture_at_start": True}),
    "generate": Variant("generate", {}),
}


class Bench:
    """Measures one model, whose weights are in the format `weights`, over conversations that nobody has seen yet."""

    def __init__(self, model: PreTrainedModel, *, seed: int, weights: str = AUTO) -> None:
        self.model = model
        self._weights = weights
        self._vocab_size = int(model.config.vocab_size)
        self._seed = seed
        self._numbers = itertools.count()

    def run(
        self,
        name: str,
        in_flight: Sequence[int],
        limits: dict[int, Limit],
        args: argparse.Namespace,
        kv_cache: str = AUTO,
    ) -> list[Row]:
        """Measure the variant `name` with each number of conversations, after one unmeasured round of each."""
        variant = VARIANTS[name]
        rows = []
        options = dict(variant.options)
        if variant.engine == "paged":
            options |= {"max_running": max(in_flight), "kv_cache": kv_cache}
        formats = {"weights": self._weights, "kv_cache": kv_cache}
        label = ", ".join([name, *(f"{key} {value}" for key, value in formats.items() if value != AUTO)])
        with contextlib.closing(make_engine(variant.engine, self.model, **options)) as engine:
            actions = self._actions() if variant.is_restricted else None
            room = _room(engine)
            began = time.perf_counter()
            for count in in_flight:
                measure(engine, self._conversations(count), count, actions)
            fits = f", room for {room['fit']} conversations" if room else ""
            print(f"{label}: warm after {time.perf_counter() - began:.0f} s{fits}", file=sys.stderr, flush=True)
            for count in in_flight:
                before = _counts(engine)
                result = summary(
                    measure(engine, self._conversations(round(args.rounds * count)), count, actions), limits[count]
                )
                counts = {key: value - before[key] for key, value in _counts(engine).items()}
                step_ms = round(1e3 * result["elapsed_s"] / counts["steps"], 2) if counts else None
                facts = {"variant": name, **formats, **room, "conversations": count, **result, **counts}
                print(json.dumps({**facts, "step_ms": step_ms}), flush=True)
                rows.append(Row(label, count, result["queries_per_min"], result["tokens_per_s"], step_ms))
            if args.profile:
                count = max(in_flight)
                work = partial(measure, engine, self._conversations(count), count, actions)
                print(gpu_time_table(work, lambda: _counts(engine).get("steps", 0)), flush=True)
        return rows

    def _conversations(self, count: int) -> list[Conversation]:
        numbers = itertools.islice(self._numbers, max(1, count))
        return [make_conversation(n, vocab_size=self._vocab_size, seed=self._seed) for n in numbers]

    def _actions(self) -> TokenSet:
        """Return all tool tokens and the end token."""
        return TokenSet(range(self._vocab_size - TOOL_TOKENS - 1, self._vocab_size))


@dataclass(frozen=True)
class Row:
    """Holds a line of the table."""

    name: str
    conversations: int
    queries_per_min: float
    tokens_per_s: float | None = None
    step_ms: float | None = None


def table(rows: Sequence[Row], limits: dict[int, Limit]) -> str:
    lines = [
        f"{'engine':<37}{'conversations':>13}{'queries/h':>11}{'/min':>8}{'tokens/s':>10}{'ms/step':>9}{'limit':>7}"
    ]
    for row in rows:
        share = row.queries_per_min / limits[row.conversations].queries_per_min
        tokens = "" if row.tokens_per_s is None else f"{row.tokens_per_s:.0f}"
        step = "" if row.step_ms is None else f"{row.step_ms:.2f}"
        lines.append(
            f"{row.name:<37}{row.conversations:>13}{60 * row.queries_per_min:>11.0f}{row.queries_per_min:>8.1f}"
            f"{tokens:>10}{step:>9}{share:>7.0%}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    device = torch.device("cpu" if args.tiny or not torch.cuda.is_available() else "cuda")
    if device.type == "cpu" and not args.tiny:
        print("no GPU: give --tiny for a tiny model on the CPU", file=sys.stderr)
        return 2
    gpus = visible_gpus()[: args.gpus] if args.gpus > 1 else []
    if args.gpus > max(1, len(gpus)):
        print(f"needs {args.gpus} GPUs, found {len(gpus)}", file=sys.stderr)
        return 2
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    config = SHAPES["tiny" if args.tiny else args.shape]()
    ceilings = measure_ceilings(device)
    costs = costs_of(config, dtype)
    lasting = replace(ceilings, flop_per_s=ceilings.lasting_flop_per_s)
    limits = {count: limit_of(costs, ceilings, count, args.gpus) for count in args.conversations}
    print(f"{describe_machine(device)}; {ceilings}")
    for count, limit in limits.items():
        for_seconds = limit_of(costs, lasting, count, args.gpus).queries_per_min
        rates = f"{limit.queries_per_min:.1f} queries/min; for seconds: {for_seconds:.1f}"
        print(f"limit at {count} conversations: {rates}", flush=True)
    budget_bytes = budget_of(gpus, sharers=1) if gpus else 0
    if args.gpu_gib:
        budget_bytes = min(budget_bytes or int(args.gpu_gib * GIB), int(args.gpu_gib * GIB))
        VARIANTS.update({name: _within(variant, budget_bytes, args.gpus) for name, variant in VARIANTS.items()})
    rows: list[Row] = []
    for weights in args.weights:
        _make_room(device)
        model = make_model(config, device, dtype, seed=args.seed, weights=weights)
        if gpus:
            budgets = [GpuBudget(gpu, budget_bytes) for gpu in gpus]
            model = spread(model, plan(config, budgets, dtype, weights=weights, kv_cache=args.kv_cache[0]))
        bench = Bench(model, seed=args.seed, weights=weights)
        is_last_of_several = weights == ("fp8" if "fp8" in args.weights else weights)
        for name, kv_cache in itertools.product(args.variants, args.kv_cache):
            if kv_cache != AUTO and len(args.kv_cache) > 1 and not is_last_of_several:
                continue
            _make_room(device)
            rows += bench.run(name, args.conversations, limits, args, kv_cache)
        del bench, model
    if args.shape == "8b" and not args.tiny and args.gpus == 1:
        rows += [
            Row(name, count, rate)
            for name, rates in ANCHORS.items()
            for count, rate in rates.items()
            if count in limits
        ]
    print(table(rows, limits))
    return 0


def _make_room(device: torch.device) -> None:
    """Give back what an engine or a model before this one has left."""
    dynamo.reset()  # layers of another format are the same code, which is compiled a few times only
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _room(engine: Engine) -> dict[str, int]:
    """Return the tokens that the KV cache holds, and how many conversations of the usual length those are."""
    if not isinstance(engine, PagedEngine):
        return {}
    tokens = engine.page_use().num_pages * PAGE_SIZE
    return {"kv_tokens": tokens, "fit": tokens // Expectation().mean_tokens}


def _within(variant: Variant, budget_bytes: int, num_gpus: int) -> Variant:
    """Return the variant with this much of each GPU, weights included."""
    if variant.engine != "paged":
        return variant
    limits = dict.fromkeys(range(num_gpus), budget_bytes)
    return replace(variant, options={**variant.options, "max_gpu_bytes": limits})


def _counts(engine: Engine) -> dict[str, int]:
    return asdict(engine.counts()) if isinstance(engine, PagedEngine) else {}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--shape",
        choices=[name for name in SHAPES if name != "tiny"],
        default="8b",
        help="of the model (default: %(default)s)",
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--gpus", type=int, default=1, help="that share the model's layers (default: %(default)s)")
    parser.add_argument("--gpu_gib", type=float, help="of each GPU, weights included (default: what is free)")
    parser.add_argument("--conversations", help="in flight, such as 1,16,64 (the default; 1,8 with --tiny)")
    parser.add_argument("--variants", help=f"of {','.join(VARIANTS)} (default: default; generate,default with --tiny)")
    parser.add_argument(
        "--rounds", type=float, default=2.0, help="queries for each conversation (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", type=weight_formats, default=[AUTO], help="formats of the weights, of auto,int8,fp8"
    )
    parser.add_argument("--kv_cache", default=AUTO, help="formats of the KV cache: of auto,fp8 (default: auto)")
    parser.add_argument("--profile", action="store_true", help="add where the GPU's time goes, for each variant")
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: %(default)s)")
    args = parser.parse_args(argv)
    args.conversations = [int(n) for n in (args.conversations or ("1,8" if args.tiny else "1,16,64")).split(",")]
    args.variants = (args.variants or ("generate,default" if args.tiny else "default")).split(",")
    args.kv_cache = args.kv_cache.split(",")
    unknown = [name for name in args.variants if name not in VARIANTS]
    if unknown:
        parser.error(f"unknown variants {', '.join(unknown)}: choose of {', '.join(VARIANTS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
