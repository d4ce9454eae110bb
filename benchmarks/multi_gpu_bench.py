"""Holds what the parts of `multi_gpu` share: its rows, its loads, and replicas as processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, Deadline, Worker, end, start
from evaluation.toolbench.inference.memory_shares import GPU_SHARE
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu


@dataclass(frozen=True)
class Row:
    """Holds a measurement, and what it should be where there is a target."""

    what: str
    measured: str
    target: str = ""
    is_ok: bool = True


@dataclass(frozen=True)
class Load:
    """Describes a load: `in_flight` conversations at once, `queries` in all; both for each replica."""

    in_flight: int
    queries: int


@dataclass
class Bench:
    """Holds what the parts share."""

    gpus: Sequence[Gpu]  # visible ones; none: the CPU
    folder: Path
    shape: str
    light: Load
    heavy: Load
    crowd: Load  # where the model lies over several GPUs
    has_checkpoint: bool
    one_gpu: dict[int, float] = field(default_factory=dict)  # conversations in flight -> queries a minute


def environment_of(bench: Bench, **changes: str) -> dict[str, str]:
    hidden = {} if bench.gpus else {"CUDA_VISIBLE_DEVICES": ""}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **hidden, **changes}


@contextlib.contextmanager
def serving(
    bench: Bench, gpus: Sequence[int], seed: int, sharers: int = 1, *, most: int | None = None
) -> Iterator[Worker]:
    """Yield a replica over the GPUs with these CUDA indices, or on the CPU; `sharers` of them have each GPU.

    `most` conversations at once have a part in its steps; None: as many as the engine takes by itself.
    """
    arguments = ["-m", "benchmarks.multi_gpu_worker", "serve", "--shape", bench.shape, "--seed", str(seed)]
    arguments += ["--max_running", str(most)] if most else []
    environment = environment_of(bench)
    if gpus:
        chosen = [bench.gpus[index] for index in gpus]
        arguments += ["--budget_bytes", str(budget_of(chosen, sharers))]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in chosen)
    process = start(*arguments, environment=environment)
    try:
        yield Worker(process, f"replica {seed}")
    finally:
        end(process)


def budget_of(gpus: Sequence[Gpu], sharers: int) -> int:
    """Return the bytes of each of `gpus` for each of the replicas that share them."""
    return int(min(gpu.free_bytes for gpu in gpus) * GPU_SHARE) // sharers


def ask(workers: Sequence[Worker], load: Load, deadline: Deadline) -> list[dict[str, Any]]:
    """Put all of `workers` under `load` at the same time."""
    for worker in workers:
        worker.tell({"conversations": load.in_flight, "queries": load.queries})
    return [worker.answer(deadline) for worker in workers]


def warm_up(workers: Sequence[Worker], load: Load, deadline: Deadline) -> None:
    """Run one unmeasured round: kernels are compiled, caches filled."""
    ask(workers, Load(load.in_flight, load.in_flight), deadline)
