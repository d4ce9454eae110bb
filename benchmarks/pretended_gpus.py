"""Shows whether the host keeps several GPUs busy: the real engine and its callers' threads, over pretended GPUs.

    python -m benchmarks.pretended_gpus                            # a model over two GPUs, 64 and 128 conversations
    python -m benchmarks.pretended_gpus --stages 2,3,4 --conversations 128

Needs no GPU. Steps take what `pipeline_steps` says that H200s need for an 8B model; all else is real and in real time:
the conversations of `agent_workload`, a thread each, the engine's thread, its scheduler and its inputs. A step is late
by the time in which its first GPU had nothing to do. What CUDA's own calls cost is not in it: see `host_step`. Both
cores of a small machine are needed: beside other work steps are late for that reason.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.agent_workload import measure
from benchmarks.conversations import make_conversation
from benchmarks.host_step import PretendRecorder
from benchmarks.pipeline_steps import LAYERS, Stages, Work
from evaluation.toolbench.inference.engine.paged import engine, model_setup
from evaluation.toolbench.inference.engine.paged.execution.runner import ModelRunner
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.paged.execution.staging import Staging
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE

_HIDDEN, _VOCAB_SIZE, _CONTEXT = 32, 32_000, 8192


class Gpus:
    """Knows when the steps that have been launched are through; times in ms of this process's clock."""

    def __init__(self, num_stages: int) -> None:
        self.stages = Stages(num_stages)
        self._batch_free: dict[int, float] = {}  # when its last step's tokens are known to the first stage
        self._ends: dict[int, float] = {}  # of the steps on their way, by their staging
        self.late: list[float] = []

    def launch(self, step: Any, forward: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        """Put `step` behind those before it, once the host has launched it by `forward`."""
        hidden = forward(step)
        plan, now = step.plan, _now()
        given = self._batch_free.get(plan.batch, 0.0)
        self.late.append(max(0.0, now - max(self.stages.free[0], given)))
        times = self.stages.run(Work.of(plan, step.layout.shape.num_tokens), max(now, given))
        self._batch_free[plan.batch] = self._ends[id(step.staging)] = sum(times[-1])
        return hidden

    def wait(self, staging: Staging) -> None:
        """Wait until the step of `staging` is through the last stage."""
        time.sleep(max(0.0, self._ends[id(staging)] - _now()) / 1e3)


def _now() -> float:
    return 1e3 * time.perf_counter()


@contextlib.contextmanager
def pretended(num_stages: int) -> Iterator[Gpus]:
    """Have engines that are made here lay their model over `num_stages` GPUs that compute nothing, in their time."""
    gpus = Gpus(num_stages)

    def runner(*args: Any, **options: Any) -> ModelRunner:
        made = ModelRunner(*args, **{**options, "use_graphs": True, "recorder_for": lambda _: PretendRecorder(_HIDDEN)})
        made._forward = partial(gpus.launch, forward=made._forward)  # type: ignore[method-assign]
        return made

    with (
        patch.object(engine, "ModelRunner", runner),
        patch.object(model_setup, "stages_of", lambda model: split(model, range(num_stages))),
        patch.object(Staging, "wait", lambda staging: gpus.wait(staging)),
    ):
        yield gpus


def run(num_stages: int, conversations: int, rounds: float, max_running: int) -> dict[str, Any]:
    """Return queries a minute, how busy each GPU is and how late steps are, after one round that is not measured."""
    config = LlamaConfig(
        vocab_size=_VOCAB_SIZE,
        hidden_size=_HIDDEN,
        intermediate_size=_HIDDEN,
        num_hidden_layers=num_stages,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=_CONTEXT,
        bos_token_id=None,
        eos_token_id=None,
    )
    numbers = itertools.count()

    def some(count: int) -> list[Any]:
        return [make_conversation(n, vocab_size=_VOCAB_SIZE) for n in itertools.islice(numbers, max(1, count))]

    options = {"overlap": True, "compile_layers": False, "join_linears": False, "max_running": max_running}
    num_pages = conversations * _CONTEXT // 2 // PAGE_SIZE
    with pretended(num_stages) as gpus:
        served = engine.PagedEngine(LlamaForCausalLM(config).eval(), num_pages=num_pages, **options)
        with contextlib.closing(served):
            measure(served, some(conversations), conversations, None)
            gpus.late.clear()
            busy = list(gpus.stages.busy)
            steps = served.counts().steps
            found = measure(served, some(round(rounds * conversations)), conversations, None)
            steps = served.counts().steps - steps
    return {
        "stages": num_stages,
        "conversations": conversations,
        "queries_per_min": round(60 * found.num_queries / found.elapsed_s, 1),
        "step_ms": round(1e3 * found.elapsed_s / steps, 2),
        "busy": [
            round((now - before) / found.elapsed_s / 1e3, 2) for now, before in zip(gpus.stages.busy, busy, strict=True)
        ],
        "late_ms": round(statistics.fmean(gpus.late), 3),
        "late_share": round(statistics.fmean(late > 0 for late in gpus.late), 3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    for num_stages, count in itertools.product(args.stages, args.conversations):
        print(json.dumps(run(num_stages, count, args.rounds, max(count, args.max_running))), flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stages", type=numbers, default=[2], help=f"of {list(LAYERS)} (default: 2)")
    parser.add_argument("--conversations", type=numbers, default=[64, 128], help="at once (default: 64,128)")
    parser.add_argument("--max_running", type=int, default=128, help="of the engine (default: %(default)s)")
    parser.add_argument("--rounds", type=float, default=2.0, help="queries for each conversation (default: 2)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
