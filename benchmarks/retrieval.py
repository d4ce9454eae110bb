"""Measures retrieval at the engine's speed: queries a second beside ToolGen's way and the prompts' arithmetic.

    python -m benchmarks.retrieval                                       # one GPU, the 8B model's shape, random weights
    python -m benchmarks.retrieval --replicas 1,2,4 --anchor_queries 0   # several GPUs, each with its own copy
    python -m benchmarks.retrieval --step_tokens 512,1024,1536           # tokens a step
    python -m benchmarks.retrieval --weights auto,fp8 --anchor_queries 0  # weights in 8 bits beside the model's own
    python -m benchmarks.retrieval --page_sizes 64,16                    # a branch copies the page that it begins in
    python -m benchmarks.retrieval --tiny                                # a tiny model on the CPU

Every query is a prompt of random tokens, another one each time, and a beam search over 46,985 tools of one token each:
the prompt, then a token for each beam. Replicas, threads and messages are those of the real command. The rate is taken
between the first and the last queries of a run, once every replica is at work. The anchor is the way of ToolGen's
own script: `generate` with five beams and a processor that masks the vocabulary from a list, one query at a time. The
limit is what the card's matrix products in 16 bits allow for the prompts alone: by the rate of a few large ones, and by
the lower one that the card keeps for seconds. Each measurement is a JSON line; a table comes last.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from benchmarks.ceilings import describe_machine, measure_ceilings
from benchmarks.random_model import SHAPES, TOOL_TOKENS, costs_of, make_model, weight_formats
from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.handle import ProcessHandle
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
from evaluation.toolbench.inference.replicas.limits import Patience
from evaluation.toolbench.inference.replicas.messages import Setup
from evaluation.toolbench.inference.replicas.replica import Replica, Work
from evaluation.toolbench.inference.replicas.supervisor import RunHooks, Supervisor
from evaluation.toolbench.retrieval.beam_search import SearchRules
from evaluation.toolbench.retrieval.capacity import GPU_OPTIONS, GPU_QUERIES
from evaluation.toolbench.retrieval.job import WIDER, WIDTH
from evaluation.toolbench.retrieval.search import Found, PromptSearch, SearchThread

LOADER = "benchmarks.retrieval:load"
_MASK = -1e10


@dataclass(frozen=True)
class Job:
    """Says what each replica makes for itself: model, tools and prompts."""

    shape: str
    prompt_tokens: int
    widths: tuple[int, ...]
    at_once: int
    engine_options: dict[str, Any]
    seed: int = 0
    weights: str = AUTO


@contextmanager
def load(replica: Replica, job: Job) -> Iterator[Work]:
    """Make the random model where this process's GPU is, and be ready for queries by their numbers."""
    device, dtype = _place()
    model = make_model(SHAPES[job.shape](), device, dtype, seed=job.seed, weights=job.weights)
    engine = replica.watch.wrap(PagedEngine(model, **job.engine_options))
    trie, rules = tools_of(model), rules_of(model)
    searches = SearchThread(engine, replica.stop.is_set)

    def start_item(item_id: str) -> Future[Found]:
        return searches.start(PromptSearch(item_id, prompt_of(model, job, item_id), rules, job.widths, trie))

    try:
        yield Work(start_item, job.at_once)
    finally:
        searches.close()
        engine.close()


def rules_of(model: PreTrainedModel) -> SearchRules:
    return SearchRules(int(model.config.vocab_size) - TOOL_TOKENS - 1)


def tools_of(model: PreTrainedModel) -> TokenTrie:
    size = int(model.config.vocab_size)
    return TokenTrie([(token,) for token in range(size - TOOL_TOKENS, size)], rules_of(model).end_id)


def prompt_of(model: PreTrainedModel, job: Job, item_id: str) -> list[int]:
    rng = random.Random(f"{job.seed} {item_id}")
    return [rng.randrange(1, rules_of(model).end_id) for _ in range(job.prompt_tokens)]


@dataclass(frozen=True)
class Row:
    """Holds a line of the table."""

    name: str
    replicas: int
    queries_per_s: float


def measure(job: Job, num_replicas: int, num_queries: int) -> float:
    """Return the queries a second of `num_replicas` replicas, while all of them are at work."""
    num_warm = 4 * job.at_once * num_replicas
    total = num_warm + num_queries * num_replicas
    times: list[float] = []

    def fail(item_id: str, problem: Problem) -> None:
        raise SystemExit(f"query {item_id} failed: {problem.type}: {problem.message}\n{problem.traceback}")

    specs = tuple(_spec(number) for number in range(num_replicas))
    stop = threading.Event()
    begun: list[int] = []  # how many queries were done when the last replica was ready: only later ones count

    def show() -> None:
        if not begun and len(supervisor.loaded()) == num_replicas:
            begun.append(len(times))
        if begun and len(times) >= begun[0] + total:
            stop.set()

    hooks = RunHooks(
        start=lambda spec: ProcessHandle(Setup(spec, LOADER, job)),
        done=lambda *_: times.append(time.monotonic()),
        failed=fail,
        show=show,
    )
    items = [str(number) for number in range(100 * total)]  # more than there is time for while replicas load
    supervisor = Supervisor(items, RunLayout(specs, num_loading=num_replicas), hooks, Patience(call_s=0.0))
    supervisor.run(stop)
    first, last = begun[0] + num_warm, begun[0] + total - 1
    return (last - first) / (times[last] - times[first])


def measure_anchor(job: Job, num_queries: int) -> float:
    """Return queries a second ToolGen's way: one at a time, the prompt once for each of 5 beams, a mask from a list."""
    device, dtype = _place()
    model = make_model(SHAPES[job.shape](), device, dtype, seed=job.seed)
    rules = rules_of(model)
    size = int(model.config.vocab_size)
    mask = MaskFromLists(list(range(size - TOOL_TOKENS, size)), rules.end_id, job.prompt_tokens)
    generate = partial(
        model.generate,
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=rules.max_new_tokens,
            num_beams=WIDTH,
            num_return_sequences=WIDTH,
            eos_token_id=rules.end_id,
            pad_token_id=rules.end_id,
        ),
        logits_processor=LogitsProcessorList([mask]),
    )
    started = time.perf_counter()
    for number in range(num_queries + 1):
        prompt = torch.tensor([prompt_of(model, job, str(number))], device=device)
        generate(prompt, attention_mask=torch.ones_like(prompt))[0].tolist()
        if not number:
            started = time.perf_counter()
    return num_queries / (time.perf_counter() - started)


class MaskFromLists(LogitsProcessor):
    """Makes a mask of the vocabulary from a list, anew for every beam and step: the tools first, then the end."""

    def __init__(self, tools: list[int], end_id: int, prompt_tokens: int) -> None:
        self._tools = tools
        self._end_id = end_id
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        masked = torch.full_like(scores, _MASK)
        for row, ids in enumerate(input_ids.tolist()):
            allowed = self._tools if len(ids) == self._prompt_tokens else [self._end_id]
            chosen = torch.tensor(allowed, device=scores.device)
            masked[row, chosen] = scores[row, chosen]
        return masked


def table(rows: Sequence[Row], limit: float, lasting: float) -> str:
    """Lay the rows out, beside the limit of a card in queries a second, and the one that it can keep up."""
    anchor = next((row.queries_per_s for row in rows if row.name == "anchor"), None)
    one = {row.name: row.queries_per_s for row in rows if row.replicas == 1}
    names = f"{'queries/s':>11}{'of limit':>10}{'of lasting':>12}{'x anchor':>10}{'x one':>7}"
    lines = [f"{'search':<34}{'replicas':>9}{names}"]
    for row in rows:
        times = "" if anchor is None else f"{row.queries_per_s / anchor:.0f}"
        scale = f"{row.queries_per_s / one[row.name]:.2f}" if row.name in one else ""
        shares = [row.queries_per_s / (each * row.replicas) for each in (limit, lasting)]
        lines.append(
            f"{row.name:<34}{row.replicas:>9}{row.queries_per_s:>11.2f}{shares[0]:>10.0%}{shares[1]:>12.0%}"
            f"{times:>10}{scale:>7}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if not torch.cuda.is_available() and not args.tiny:
        print("no GPU: give --tiny for a tiny model on the CPU", file=sys.stderr)
        return 2
    most = max(args.replicas)
    if not args.tiny and most > len(visible_gpus()):
        print(f"needs {most} GPUs, found {len(visible_gpus())}", file=sys.stderr)
        return 2
    device, dtype = _place()
    shape = "tiny" if args.tiny else args.shape
    ceilings = measure_ceilings(device)
    flop = costs_of(SHAPES[shape](), dtype).prompt_token_flop * args.prompt_tokens
    limit, lasting = ceilings.flop_per_s / flop, ceilings.lasting_flop_per_s / flop
    print(f"{describe_machine(device)}; {ceilings}")
    each = f"{args.prompt_tokens} tokens, {flop / 1e12:.2f} TFLOP each"
    print(f"limit of a card: {limit:.1f} queries/s of {each}; for seconds: {lasting:.1f}")
    rows: list[Row] = []

    def note(name: str, replicas: int, rate: float) -> None:
        rows.append(Row(name, replicas, rate))
        record = {"search": name, "replicas": replicas, "queries_per_s": round(rate, 3)}
        print(json.dumps({**record, "share_of_limit": round(rate / limit / replicas, 4)}), flush=True)

    base = Job(shape, args.prompt_tokens, (WIDTH,), args.at_once, {}, args.seed)
    if args.anchor_queries:
        note("anchor", 1, measure_anchor(base, args.anchor_queries))
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    ways = itertools.product(args.weights, args.step_tokens, args.page_sizes, args.widths)
    for weights, step_tokens, page_size, widths in ways:
        options = {
            **(GPU_OPTIONS if device.type == "cuda" else {}),
            "max_length": args.prompt_tokens + SearchRules(end_id=0).max_new_tokens,
            "step_tokens": step_tokens,
            "page_size": page_size,
        }
        beams = " and ".join(map(str, widths))
        held = "" if weights == AUTO else f", {weights}"
        pages = f", pages of {page_size}" if len(args.page_sizes) > 1 else ""
        for replicas in args.replicas:
            job = Job(shape, args.prompt_tokens, widths, args.at_once, options, args.seed, weights)
            name = f"{beams} beams, steps of {step_tokens}{pages}{held}"
            note(name, replicas, measure(job, replicas, args.num_queries))
    print(table(rows, limit, lasting))
    return 0


def _place() -> tuple[torch.device, torch.dtype]:
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    return torch.device("cpu"), torch.float32


def _spec(number: int) -> ReplicaSpec:
    """Return the replica on the GPU of that number, as this process counts; on the CPU where there is none."""
    gpus = visible_gpus()
    if not gpus:
        return ReplicaSpec(number, visible_devices="", num_cpu_threads=1)
    return ReplicaSpec(number, (f"cuda:{number}",), (gpus[number].uuid,), visible_devices=gpus[number].uuid)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--shape",
        choices=[name for name in SHAPES if name != "tiny"],
        default="8b",
        help="of the model (default: %(default)s)",
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on the CPU where there is no GPU")
    parser.add_argument("--num_queries", type=int, help="measured for each replica (default: 1000; 60 with --tiny)")
    parser.add_argument("--anchor_queries", type=int, help="measured of ToolGen's way (default: 20; 3 with --tiny)")
    parser.add_argument("--prompt_tokens", type=int, default=100, help="of a query (default: %(default)s)")
    parser.add_argument("--at_once", type=int, help=f"queries in a replica (default: {GPU_QUERIES}; 8 with --tiny)")
    parser.add_argument("--step_tokens", type=numbers, default=[GPU_OPTIONS["step_tokens"]], help="such as 512,1024")
    parser.add_argument("--page_sizes", type=numbers, default=[GPU_OPTIONS["page_size"]], help="such as 64,16")
    parser.add_argument(
        "--widths",
        type=lambda text: [tuple(numbers(each.replace("+", ","))) for each in text.split(",")],
        default=[(WIDTH,), (WIDTH, WIDER)],
        help=f"beams of the searches that a query has (default: {WIDTH},{WIDTH}+{WIDER})",
    )
    parser.add_argument("--weights", type=weight_formats, default=[AUTO], help="of auto,int8,fp8 (default: auto)")
    parser.add_argument("--replicas", type=numbers, default=[1], help="such as 1,2,4 (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: %(default)s)")
    args = parser.parse_args(argv)
    for name, small, large in (("num_queries", 60, 1000), ("anchor_queries", 3, 20), ("at_once", 8, GPU_QUERIES)):
        if getattr(args, name) is None:
            setattr(args, name, small if args.tiny else large)
    return args


if __name__ == "__main__":
    from benchmarks import retrieval  # under the name that the replicas' processes know

    sys.exit(retrieval.main())
