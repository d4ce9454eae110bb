"""Measures what a step of the paged engine costs the host, part by part, with and without a GPU.

    python -m benchmarks.host_step                                 # no GPU: graphs that compute nothing
    python -m benchmarks.host_step --stages 1,3                    # a model in three stages, three batches in flight
    python -m benchmarks.host_step --device cuda --stages 1,3      # CUDA's own calls and graphs, a thin model

The engine's own scheduler and runner serve conversations that decode (`decode`), or that decode 34 tokens and come back
with 144 more prompt tokens, as an agent's do (`agents`). Without a GPU the calls of CUDA are not in the times: how many
operations a step queues is counted beside them. With one, the stages lie on as many GPUs as there are, and the layers
are those of an 8B model in number, but so small that the GPU does not hold the host up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import dispatch_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.ceilings import describe_machine
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.attach import attach
from evaluation.toolbench.inference.engine.paged.execution.runner import LaunchedStep, ModelRunner
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepBuffers
from evaluation.toolbench.inference.engine.paged.execution.step_graph import Forward, recorder_for
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.pages import PagePool, extend_names
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence as Generation
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling

PARTS = ("plan", "prepare", "forward", "draw", "note_launch", "take_tokens")
_VOCAB_SIZE, _LAYERS, _CONTEXT, _PAGE_SIZE = 1024, 32, 8192, 64
_PROMPT, _DRAWN, _APPENDED = 1200, 34, 144  # tokens; a conversation of the agents' starts again at three times that
_NO_STOP = TokenSet([])
T = TypeVar("T")


class PretendGraph:
    """Takes a step's inputs and computes nothing; its tokens are those of the step before."""

    def __init__(self, layout: StepBuffers, hidden: torch.Tensor | None, size: int) -> None:
        self.layout = layout
        self._input = torch.zeros(layout.size, dtype=torch.int32)
        self.arrays = layout.views(self._input)
        self._hidden = hidden
        self._output = torch.zeros(layout.shape.num_tokens, size)

    def replay(self, inputs: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        self._input.copy_(inputs)
        if self._hidden is not None and hidden is not None:
            self._hidden.copy_(hidden)
        return self._output


class PretendRecorder:
    """Gives graphs that compute nothing, for a model of this hidden size."""

    def __init__(self, hidden_size: int) -> None:
        self._hidden_size = hidden_size

    def record(self, layout: StepBuffers, forward: Forward, hidden: torch.Tensor | None) -> PretendGraph:
        return PretendGraph(layout, hidden, self._hidden_size)

    def release_memory(self) -> None:
        """Do nothing: there is no memory."""


@dataclass
class Times:
    """Holds the seconds of each step by part, and the tensor operations of some."""

    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    operations: list[int] = field(default_factory=list)

    def timed(self, part: str, work: Callable[..., T]) -> Callable[..., T]:
        def wrapper(*args: Any, **options: Any) -> T:
            began = time.perf_counter()
            result = work(*args, **options)
            self.parts[part].append(time.perf_counter() - began)
            return result

        return wrapper

    def summary(self) -> dict[str, float]:
        """Return the milliseconds of each part, the mean of the steps' middle 80%; operations of a step, the median."""
        found = {part: round(1e3 * _middle(self.parts[part]), 4) for part in PARTS}
        return {**found, "total": round(sum(found.values()), 4), "operations": statistics.median(self.operations)}


class Bench:
    """Runs a scheduler and a runner over a thin model in `num_stages`, with `conversations` to serve."""

    def __init__(self, device: torch.device, num_stages: int, conversations: int, work: str, args: Any) -> None:
        starts = [args.layers * stage // num_stages for stage in range(num_stages)]
        model = thin_model(device, starts, args.layers)
        _, layers = attach(model)
        num_pages = conversations * (_CONTEXT // 2 // _PAGE_SIZE) + 256
        cache = KvCache(layers, num_pages, _PAGE_SIZE)
        limits = Limits.of(num_stages, max_running=max(8, conversations), max_prefill_tokens=None)
        self._scheduler = Scheduler(PagePool(num_pages, _PAGE_SIZE), limits, num_stages)
        hidden_size = int(model.config.hidden_size)
        self._runner = ModelRunner(
            model,
            split(model, starts),
            cache,
            vocab_size=_VOCAB_SIZE,
            num_batches=num_stages,
            slots_per_batch=self._scheduler.slots_per_batch,
            max_prefill_rows=limits.max_prefill_rows,
            table_width=_CONTEXT // _PAGE_SIZE,
            use_graphs=True,
            recorder_for=recorder_for if device.type == "cuda" else lambda _: PretendRecorder(hidden_size),  # type: ignore[arg-type,return-value]
        )
        self._num_batches = num_stages
        self._numbers = itertools.count()
        self._turns = itertools.count()
        self._in_flight: deque[LaunchedStep] = deque()
        self._goes_on = work == "agents"
        self._sampling = Sampling(0.8) if args.sampled else Sampling()
        self._constraint = TokenSet(range(10, 500)) if args.restricted else None
        self.times = Times()
        for number in range(conversations):
            self._ask(f"c{number}", [number % _VOCAB_SIZE] * _PROMPT)
        self._first = list(self._scheduler.waiting)
        for name in ("prepare", "forward", "draw"):
            setattr(self._runner, f"_{name}", self.times.timed(name, getattr(self._runner, f"_{name}")))

    @torch.inference_mode()
    def run(self, num_steps: int) -> dict[str, float]:
        """Return the milliseconds of each part of a step, once all conversations are in it."""
        while any(not sequence.has_begun or sequence.num_drawn == 0 for sequence in self._first):
            self._step()
        for _ in range(2 * _DRAWN * self._num_batches if self._goes_on else 20):
            self._step()
        self.times.parts.clear()
        for _ in range(num_steps):
            self._step()
        for _ in range(num_steps // 10):
            counter = _CountOperations()
            with counter:
                self._step(is_timed=False)
            self.times.operations.append(counter.count)
        return self.times.summary()

    def _step(self, *, is_timed: bool = True) -> None:
        timed: Callable[..., Any] = self.times.timed if is_timed else lambda part, work: work
        plan = timed("plan", self._scheduler.plan)(next(self._turns) % self._num_batches)
        if plan is not None:
            self._in_flight.append(self._runner.launch(plan))
            timed("note_launch", self._scheduler.note_launch)(plan)
        if self._in_flight and (plan is None or len(self._in_flight) > self._num_batches):
            launched = self._in_flight.popleft()
            launched.staging.wait()  # for the device, which is not the host's time
            ended = timed("take_tokens", lambda: self._scheduler.take_tokens(launched.plan, launched.tokens()))()
            for sequence in ended:
                self._go_on(sequence)

    def _go_on(self, sequence: Generation) -> None:
        conversation_id = str(sequence.request.conversation_id)
        if len(sequence.token_ids) > 3 * _PROMPT:
            self._scheduler.end_conversation(conversation_id)
            self._ask(conversation_id, sequence.token_ids[:_PROMPT])
        else:
            self._ask(conversation_id, sequence.token_ids + [sequence.number % _VOCAB_SIZE] * _APPENDED)

    def _ask(self, conversation_id: str, prompt_ids: list[int]) -> None:
        """Submit as `PagedEngine.submit` does it; the caller's thread pays for that."""
        max_new_tokens = _DRAWN if self._goes_on else _CONTEXT // 2 - _PROMPT - 1
        request = GenerationRequest(
            prompt_ids, max_new_tokens, _NO_STOP, self._sampling, self._constraint, conversation_id
        )
        sequence = Generation(next(self._numbers), request, max_new_tokens)
        extend_names(sequence.names, prompt_ids, _PAGE_SIZE)
        self._scheduler.add(sequence)


class _CountOperations(TorchDispatchMode):
    """Counts what PyTorch is asked to do with tensors, views left out: each is a call or more of a device's driver."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("needs 1 GPU, found 0: leave --device out for a pretended one", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    print(f"{describe_machine(device)}; milliseconds of the host for a step, and the operations that it queues")
    print(
        f"{'work':<8}{'stages':>7}{'conversations':>14}" + "".join(f"{name:>13}" for name in (*PARTS, "total", "ops"))
    )
    for work, num_stages, count in itertools.product(args.work, args.stages, args.conversations):
        found = Bench(device, num_stages, count, work, args).run(args.steps)
        cells = "".join(f"{found[name]:>13.3f}" for name in (*PARTS, "total"))
        print(f"{work:<8}{num_stages:>7}{count:>14}{cells}{found['operations']:>13.0f}", flush=True)
        print(json.dumps({"work": work, "stages": num_stages, "conversations": count, **found}), file=sys.stderr)
    return 0


def places_of_layers(starts: Sequence[int], num_layers: int, num_gpus: int) -> list[int]:
    """Return the GPU of each layer: a stage begins at each of `starts`, and no layer is split between two GPUs.

    >>> places_of_layers([0, 1, 3], 5, num_gpus=2)
    [0, 1, 1, 1, 1]
    """
    return [min(bisect_right(starts, layer) - 1, num_gpus - 1) for layer in range(num_layers)]


def thin_model(
    device: torch.device, starts: Sequence[int], num_layers: int, *, vocab_size: int = _VOCAB_SIZE
) -> PreTrainedModel:
    """Return a Llama whose layers are small, its stages over the GPUs that there are."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=_CONTEXT,
    )
    model: Any = LlamaForCausalLM(config).eval()
    if device.type == "cpu":
        return model  # type: ignore[no-any-return]
    gpus = places_of_layers(starts, num_layers, torch.cuda.device_count())
    places = [torch.device("cuda", gpu) for gpu in gpus]
    model = model.bfloat16().to(places[0])
    if places[-1] != places[0]:  # `attach` runs the whole model once, which then needs accelerate's hooks
        places_of = {"model.embed_tokens": places[0], "model.rotary_emb": places[0]}
        places_of |= {f"model.layers.{index}": place for index, place in enumerate(places)}
        model = dispatch_model(model, {**places_of, "model.norm": places[-1], "lm_head": places[-1]})
    return model  # type: ignore[no-any-return]


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(values)
    cut = len(ordered) // 10
    return statistics.fmean(ordered[cut : len(ordered) - cut]) if ordered else 0.0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cpu pretends (default)")
    parser.add_argument("--conversations", type=numbers, default=[1, 16, 64, 128, 192], help="default: 1,16,64,128,192")
    parser.add_argument("--stages", type=numbers, default=[1], help="of the model, such as 1,3 (default: 1)")
    parser.add_argument(
        "--work",
        type=lambda text: text.split(","),
        default=["decode", "agents"],
        help="all decode, agents with prompts, or both (default: decode,agents)",
    )
    parser.add_argument("--steps", type=int, default=400, help="that are timed (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=_LAYERS, help="of the model (default: %(default)s)")
    parser.add_argument("--sampled", action="store_true", help="tokens are sampled, not greedy")
    parser.add_argument("--restricted", action="store_true", help="tokens are held to a set")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
