"""Runs in the processes of `multi_gpu`: each sees the GPUs that it is left, and answers in JSON lines.

serve    a replica of random weights over all GPUs it sees: a line when it is ready, then, for each line
         {"conversations": C, "queries": Q} on its standard input, a line with what it measured
tokens   whether a small float32 model over several devices says what it says on one: one line
cards    which cards hold what, by NVML, after allocating on each torch device and after a planned load: one line
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import dispatch_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from benchmarks.agent_workload import measure
from benchmarks.conversations import TOKENS_PER_QUERY, make_conversation
from benchmarks.random_model import SHAPES, make_model
from benchmarks.spread_model import plan, spread
from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus, visible_gpus
from evaluation.toolbench.inference.multi_gpu.loading import load_replica
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget
from evaluation.toolbench.inference.multi_gpu.units import GIB

_CPU_KV_BYTES = GIB // 8
_SMALL_KV_BYTES = GIB // 2
_NUM_PROMPTS, _NEW_TOKENS = 16, 32  # of the comparison of tokens
ALLOCATED_BYTES = 2 * GIB  # on cuda:0, twice as much on cuda:1 ...

Say = Callable[[dict[str, Any]], None]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "what", choices=("serve", "tokens", "cards"), help="throughput, tokens of one device, cards in use"
    )
    parser.add_argument("--shape", choices=SHAPES, default="8b", help="of the model (default: %(default)s)")
    parser.add_argument("--budget_bytes", type=int, default=0, help="of each GPU (serve)")
    parser.add_argument("--max_running", type=int, default=MAX_RUNNING, help="sequences in a step (serve)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: %(default)s)")
    args = parser.parse_args(argv)
    with _answers() as say:
        if args.what == "serve":
            serve(args.shape, args.budget_bytes, args.seed, sys.stdin, say, max_running=args.max_running)
        else:
            say(compare_tokens() if args.what == "tokens" else read_cards())
    return 0


@contextlib.contextmanager
def _answers() -> Iterator[Say]:
    """Writes to standard output, which is kept from everything else: libraries print too."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as stream:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield lambda answer: print(json.dumps(answer), file=stream, flush=True)


def serve(
    shape: str, budget_bytes: int, seed: int, commands: Iterator[str], say: Say, *, max_running: int = MAX_RUNNING
) -> None:
    """Serve until `commands` end."""
    began = time.perf_counter()
    config = SHAPES[shape]()
    gpus = visible_gpus()
    device = torch.device("cuda" if gpus else "cpu")
    dtype = torch.bfloat16 if gpus else torch.float32
    model = make_model(config, device, dtype, seed=seed)
    if gpus:
        replica = plan(config, [GpuBudget(gpu, budget_bytes) for gpu in gpus], dtype)
        model = spread(model, replica)
        options: dict[str, Any] = {"max_kv_bytes": replica.max_kv_bytes, "capture_at_start": True}
    else:
        options = {"max_kv_bytes": _CPU_KV_BYTES}
    numbers = itertools.count()
    options["max_running"] = max_running
    with contextlib.closing(PagedEngine(model, **options)) as engine:
        places = list(getattr(model, "hf_device_map", {"": str(device)}).values())
        kv_tokens = engine.page_use().num_pages * PAGE_SIZE
        ready = {"modules": {str(place): places.count(place) for place in places}, "kv_tokens": kv_tokens}
        say({**ready, "seconds": round(time.perf_counter() - began, 1)})
        for line in commands:
            command = json.loads(line)
            queries = [
                make_conversation(number, vocab_size=config.vocab_size, seed=seed)
                for number in itertools.islice(numbers, command["queries"])
            ]
            steps = engine.counts().steps
            elapsed_s = measure(engine, queries, command["conversations"], None).elapsed_s
            say(
                {
                    "elapsed_s": round(elapsed_s, 2),
                    "queries_per_min": round(60 * len(queries) / elapsed_s, 2),
                    "tokens_per_s": round(TOKENS_PER_QUERY * len(queries) / elapsed_s, 1),
                    "steps": engine.counts().steps - steps,
                    "peak_bytes": max(map(torch.cuda.max_memory_reserved, range(len(gpus))), default=0),
                }
            )


def compare_tokens() -> dict[str, Any]:
    """Count the tokens of both engines over all devices that are those of `generate` on one. One GPU: with the CPU."""
    places: list[int | str] = list(range(torch.cuda.device_count()))
    if len(places) == 1:
        places.append("cpu")
    first = torch.device("cuda" if places else "cpu")
    config = LlamaConfig(
        vocab_size=5000, hidden_size=256, intermediate_size=512, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, initializer_range=0.1,
    )  # fmt: skip
    whole = make_model(config, first, torch.float32)
    expected = _generate(whole, "generate")
    answer: dict[str, Any] = {"tokens": len(expected), "devices": [str(place) for place in places] or ["cpu"]}
    for name, model in (("one device", whole), ("several devices", _copy_over(whole, places))):
        for engine in ("paged",) if model is whole else ("generate", "paged"):
            tokens = _generate(model, engine)
            answer[f"{engine}, {name}"] = sum(ours == theirs for ours, theirs in zip(tokens, expected, strict=True))
    return answer


def _copy_over(whole: PreTrainedModel, places: Sequence[int | str]) -> PreTrainedModel:
    """Return a model with the same weights, its layers spread over `places`; with none, a copy where it is."""
    copy = AutoModelForCausalLM.from_config(whole.config, dtype=torch.float32).eval()
    copy.load_state_dict(whole.state_dict())
    if not places:
        return copy
    modules = footprint_of_config(whole.config, torch.float32).blocks
    names = [name for block in modules for name in block.modules]
    return dispatch_model(
        copy, device_map={name: places[i * len(places) // len(names)] for i, name in enumerate(names)}
    )


def _generate(model: PreTrainedModel, engine: str) -> list[int]:
    rng = random.Random(0)
    prompts = [[rng.randrange(5000) for _ in range(rng.randint(5, 200))] for _ in range(_NUM_PROMPTS)]
    options = {"max_kv_bytes": _SMALL_KV_BYTES} if engine == "paged" else {}
    with contextlib.closing(make_engine(engine, model, **options)) as made:
        futures = [made.submit(GenerationRequest(prompt, _NEW_TOKENS, TokenSet([]))) for prompt in prompts]
        return [token for future in futures for token in future.result().token_ids]


def read_cards() -> dict[str, Any]:
    """Return the bytes that each card has gained: of what was allocated on cuda:i, and of a model loaded by a plan."""
    order = [gpu.uuid for gpu in visible_gpus()]
    answer: dict[str, Any] = {"order": order, "torch_sees": torch.cuda.device_count()}
    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig(vocab_size=1000, hidden_size=128, intermediate_size=256, num_hidden_layers=8,
                             num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512)  # fmt: skip
        make_model(config, torch.device("cpu"), torch.float32).save_pretrained(folder)
        if order:
            before = _used_bytes()
            replica = plan(config, [GpuBudget(gpu, GIB) for gpu in visible_gpus()], torch.bfloat16)
            model = load_replica(folder, replica)
            ballast = [
                torch.empty((index + 1) * ALLOCATED_BYTES, dtype=torch.uint8, device=f"cuda:{index}")
                for index in range(len(order))
            ]
            after = _used_bytes()
            del ballast
            answer["device_map"] = {name: str(place) for name, place in model.hf_device_map.items()}
            answer["gained_bytes"] = {uuid: after[uuid] - before[uuid] for uuid in after}
    return answer


def _used_bytes() -> dict[str, int]:
    return {gpu.uuid: gpu.used_bytes for gpu in inspect_gpus().gpus}


if __name__ == "__main__":
    sys.exit(main())
