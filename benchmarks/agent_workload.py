"""Runs agent conversations against an engine: what the card allows, what the engine does, and its share of that.

    python -m benchmarks.agent_workload --engine paged --conversations 64 --shape 8b
    python -m benchmarks.agent_workload --engine server --engine_url http://localhost:8000/v1 --checkpoint DIR

The workload is that of `conversations`, the model has the shape of a ToolGen checkpoint and random weights, and
there is no API latency. As many conversations as are in flight run first, unmeasured, so that kernels are compiled
and graphs captured. The last line on stdout is JSON. With the engine `server` the model is the one served from the
checkpoint; the limit is that of this machine's card all the same.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from benchmarks.ceilings import Ceilings, describe_machine, measure_ceilings
from benchmarks.conversations import (
    KINDS,
    NEW_PROMPT_TOKENS_PER_QUERY,
    STEPS,
    TOKENS_PER_QUERY,
    Conversation,
    Generation,
    Kind,
    Layout,
    longest_conversation,
    make_conversation,
    mean_context,
    play,
)
from benchmarks.random_model import SHAPES, TOOL_TOKENS, ModelCosts, costs_of, make_model
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.engine.remote.settings import ServerSettings
from evaluation.toolbench.inference.engine.request import Engine, GenerationRequest
from evaluation.toolbench.inference.errors import ConfigError, ToolGenError

_ENGINES = ("paged", "generate", "transformers", "server")
_NO_STOP = TokenSet([])


@dataclass(frozen=True, slots=True)
class Limit:
    """Holds the least time that a query can take, in seconds, with this many conversations decoding together."""

    decode_s: float
    prefill_s: float

    @property
    def queries_per_min(self) -> float:
        return 60 / (self.decode_s + self.prefill_s)


@dataclass
class Measurement:
    """Holds what was seen while `num_queries` conversations ran, in seconds."""

    num_queries: int
    elapsed_s: float = 0.0
    latencies_s: dict[Kind, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    steps_s: list[float] = field(default_factory=list)
    first_tokens_s: list[float] = field(default_factory=list)  # of every generation, where the engine can tell


def limit_of(costs: ModelCosts, ceilings: Ceilings, conversations: int, num_gpus: int = 1) -> Limit:
    """Return the limit where each decode step reads the weights once for all, and each row's keys and values.

    Each new prompt token is multiplied once. Nothing else takes time, and nothing overlaps.

    GPUs that share a model work on as many batches at once, each of which reads all weights; nothing is lost between
    them.
    """
    step_bytes = num_gpus * costs.step_bytes / conversations + mean_context() * costs.kv_token_bytes
    return Limit(
        decode_s=TOKENS_PER_QUERY * step_bytes / (num_gpus * ceilings.bytes_per_s),
        prefill_s=NEW_PROMPT_TOKENS_PER_QUERY * costs.prompt_token_flop / (num_gpus * ceilings.flop_per_s),
    )


def measure(
    engine: Engine, conversations: Sequence[Conversation], in_flight: int, actions: TokenSet | None
) -> Measurement:
    """Run the conversations, `in_flight` at once; `actions` limits what the actions may be."""
    measurement = Measurement(len(conversations))

    def run(conversation: Conversation) -> None:
        started = time.perf_counter()

        def generate(asked: Generation) -> tuple[int, ...]:
            nonlocal started
            request = GenerationRequest(
                asked.prompt_ids,
                asked.max_new_tokens,
                _NO_STOP,
                constraint=actions if asked.kind == "action" else None,
                conversation_id=conversation.conversation_id,
            )
            before = time.perf_counter()
            result = engine.generate(request)
            now = time.perf_counter()
            measurement.latencies_s[asked.kind].append(now - before)
            if result.first_token_s is not None:
                measurement.first_tokens_s.append(result.first_token_s)
            if asked.kind == "arguments":
                measurement.steps_s.append(now - started)
                started = now
            return result.token_ids

        play(conversation, generate)
        engine.end_conversation(conversation.conversation_id)

    began = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as pool:
        for future in [pool.submit(run, conversation) for conversation in conversations]:
            future.result()
    measurement.elapsed_s = time.perf_counter() - began
    return measurement


def summary(measurement: Measurement, limit: Limit) -> dict[str, Any]:
    """Return rates, latencies (median and 90th percentile, in ms) and the share of the limit."""
    queries_per_min = 60 * measurement.num_queries / measurement.elapsed_s
    times: list[tuple[str, list[float]]] = [*measurement.latencies_s.items(), ("step", measurement.steps_s)]
    times += [("first token", measurement.first_tokens_s)] if measurement.first_tokens_s else []
    return {
        "queries_per_min": round(queries_per_min, 2),
        "tokens_per_s": round(queries_per_min * TOKENS_PER_QUERY / 60, 1),
        "share_of_limit": round(queries_per_min / limit.queries_per_min, 3),
        "elapsed_s": round(measurement.elapsed_s, 2),
        "latency_ms": {name: _median_and_p90(seconds) for name, seconds in times},
    }


def _median_and_p90(seconds: Sequence[float]) -> list[float]:
    ordered = sorted(seconds)
    return [round(1e3 * value, 1) for value in (statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))])]


def _make_engine(
    args: argparse.Namespace, config: PreTrainedConfig, device: torch.device, dtype: torch.dtype
) -> Engine:
    options = dict(args.option)
    if args.engine == "server":
        settings = ServerSettings.of(args.engine_url or "", constraints=args.engine_constraints)
        largest_set = TOOL_TOKENS + 1 if args.restrict_actions else 0
        needs = Needs(args.checkpoint, config.vocab_size, longest_conversation(), largest_set=largest_set)
        return make_engine("server", None, settings=settings, needs=needs)
    model: PreTrainedModel = make_model(config, device, dtype, seed=args.seed)
    if args.engine == "transformers":
        from benchmarks.transformers_peer import TransformersEngine

        return TransformersEngine(model, **options)
    return make_engine(args.engine, model, **options)


def _config(args: argparse.Namespace) -> PreTrainedConfig:
    """Return the config of the checkpoint that is served, or of the shape that is asked for. ConfigError."""
    if args.engine != "server":
        return SHAPES[args.shape]()
    if args.checkpoint is None:
        raise ConfigError("--engine server needs --checkpoint, the folder that the server was started with")
    config: PreTrainedConfig = AutoConfig.from_pretrained(args.checkpoint)
    return config


def _option(text: str) -> tuple[str, Any]:
    """Read `name=value`, the value as JSON or else as it stands."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"an engine option is name=value, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=_ENGINES, default="paged", help="what generates (default: %(default)s)")
    parser.add_argument("--conversations", type=int, default=64, help="in flight at once (default: %(default)s)")
    parser.add_argument("--queries", type=int, help="in all (default: twice as many as are in flight)")
    parser.add_argument("--warm_up", type=int, help="queries before those (default: as many as are in flight)")
    parser.add_argument("--shape", choices=SHAPES, default="8b", help="of the model (default: %(default)s)")
    parser.add_argument("--engine_url", help="of the engine server; several separated by commas")
    parser.add_argument(
        "--engine_constraints",
        default="auto",
        choices=("auto", "list", "grammar"),
        help="how large sets of tokens are written to the engine server (default: %(default)s)",
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="what the server serves, instead of a shape")
    parser.add_argument("--layout", choices=get_args(Layout), default="trained", help="of prompts; see `conversations`")
    parser.add_argument("--restrict_actions", action="store_true", help="actions are tool tokens or the end token")
    parser.add_argument("--option", type=_option, action="append", default=[], help="name=value for the engine")
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the limit, the measurement and the JSON line."""
    args = _arguments(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        config = _config(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    name = args.shape if args.engine != "server" else Path(args.checkpoint).name
    costs = costs_of(config, dtype)
    ceilings = measure_ceilings(device)
    limit = limit_of(costs, ceilings, args.conversations)
    print(f"{date.today()}, {describe_machine(device)}; {ceilings}")
    print(
        f"{name}: {costs.num_parameters / 1e9:.2f} B parameters in {dtype}, {costs.step_bytes / 1e9:.1f} GB "
        f"read a decode step, {costs.kv_token_bytes / 1e3:.0f} KB of keys and values a token"
    )
    print(
        f"limit at {args.conversations} conversations: {limit.decode_s * 1e3:.1f} ms of decode and "
        f"{limit.prefill_s * 1e3:.1f} ms of prefill a query, {limit.queries_per_min:.1f} queries/min",
        flush=True,
    )
    vocab_size = config.vocab_size
    actions = TokenSet(range(vocab_size - TOOL_TOKENS - 1, vocab_size)) if args.restrict_actions else None
    in_flight = args.conversations
    numbers = itertools.count()

    def conversations(count: int) -> list[Conversation]:
        made = itertools.islice(numbers, count)
        return [make_conversation(n, vocab_size=vocab_size, seed=args.seed, layout=args.layout) for n in made]

    try:
        with contextlib.closing(_make_engine(args, config, device, dtype)) as engine:
            measure(engine, conversations(in_flight if args.warm_up is None else args.warm_up), in_flight, actions)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            queries = conversations(2 * in_flight if args.queries is None else args.queries)
            result = summary(measure(engine, queries, in_flight, actions), limit)
    except ToolGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    result["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1) if device.type == "cuda" else None
    print(f"{result['queries_per_min']} queries/min, {result['tokens_per_s']} tokens/s, ", end="")
    print(f"{result['share_of_limit']:.0%} of the limit, {result['peak_memory_gib']} GiB at the peak")
    for kind, (median, p90) in result["latency_ms"].items():
        print(f"  {kind:<11} median {median:>9.1f} ms, p90 {p90:>9.1f} ms")
    asked = {flag: getattr(args, flag) for flag in ("engine", "conversations", "layout", "restrict_actions")}
    print(json.dumps({**asked, "shape": name, "queries": len(queries), "steps": STEPS, **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
