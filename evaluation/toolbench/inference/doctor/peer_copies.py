"""Copies between GPUs, for real: what arrives is compared on both sides.

On some hosts (consumer cards, IOMMU) CUDA reports peer access that delivers garbage, and a model
spread over such GPUs talks garbage. The copies run in a process of their own, each with a time limit,
because a copy can also hang or end the process; those left go on in a new one.

    python -m evaluation.toolbench.inference.doctor.peer_copies cuda:0,cuda:1 cuda:1,cuda:0
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import IO, Any

import torch

from evaluation.toolbench.inference.doctor.machine import Machine
from evaluation.toolbench.inference.finding import Finding, needs
from evaluation.toolbench.inference.multi_gpu.units import MIB

TIME_LIMIT_S = 60.0  # of a copy, and of starting the process where it is its first
_COPY_BYTES = 64 * MIB
_REPEATS = 8
_ROOT = Path(__file__).resolve().parents[5]
_COMMAND = (sys.executable, "-m", "evaluation.toolbench.inference.doctor.peer_copies")
_ADVICE = (
    "one replica per GPU is not affected (--num_replicas {count}); for a model over several GPUs update the driver, "
    "switch the IOMMU or ACS off in the BIOS, or hide one GPU of the pair"
)

Pair = tuple[int, int]  # CUDA indices: from, to
Outcome = Mapping[str, Any] | str  # what was measured, or why nothing was


def check_peer_copies(machine: Machine) -> list[Finding]:
    """Return a finding for every ordered pair of visible GPUs."""
    gpus = machine.gpus
    if len(gpus) < 2:
        return [needs("peer copies", 2, len(gpus))]
    outcomes = copy_pairs(list(permutations(range(len(gpus)), 2)))
    return [
        judge(pair, outcome, len(gpus), gpus[pair[0]].links.get(gpus[pair[1]].uuid))
        for pair, outcome in outcomes.items()
    ]


def judge(pair: Pair, outcome: Outcome, num_gpus: int, link: str | None = None) -> Finding:
    """Return the finding on one copy; `link` says how the two GPUs reach each other."""
    name = f"copy {pair[0]} -> {pair[1]}"
    advice = _ADVICE.format(count=num_gpus)
    over = f" ({link})" if link else ""
    if isinstance(outcome, str):
        return Finding(name, "fail", f"{outcome}{over}", advice)
    facts = {**outcome, "link": link}
    wrong = outcome["num_bytes"] - min(outcome["right_at_target"], outcome["right_at_source"])
    if wrong:
        access = "although CUDA reports peer access" if outcome["peer_access"] else "without peer access"
        measured = f"{wrong:,} of {outcome['num_bytes']:,} bytes arrive wrong, {access}{over}"
        return Finding(name, "fail", measured, advice, facts=facts)
    how = "peer access" if outcome["peer_access"] else "through the host"
    return Finding(name, "ok", f"{outcome['bytes_per_s'] / 1e9:.1f} GB/s, {how}{over}, all bytes right", facts=facts)


def copy_pairs(pairs: Sequence[Pair], command: Sequence[str] = _COMMAND) -> dict[Pair, Outcome]:
    """Return the outcome of each pair's copy, in their order; `command` stands in for the process that copies."""
    outcomes: dict[Pair, Outcome] = {}
    while left := [pair for pair in pairs if pair not in outcomes]:
        outcomes |= _copies_of_one_process(left, command)
    return outcomes


def _copies_of_one_process(pairs: Sequence[Pair], command: Sequence[str]) -> dict[Pair, Outcome]:
    """Return outcomes up to the first copy that hangs or ends the process, that one included."""
    outcomes: dict[Pair, Outcome] = {}
    arguments = [f"cuda:{source},cuda:{target}" for source, target in pairs]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as messages:
        process = subprocess.Popen(
            [*command, *arguments], cwd=_ROOT, stdout=subprocess.PIPE, stderr=messages, text=True
        )
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        for pair in pairs:
            try:
                line = lines.get(timeout=TIME_LIMIT_S)
                code = None if line else process.wait(TIME_LIMIT_S)
            except (queue.Empty, subprocess.TimeoutExpired):
                process.kill()
                outcomes[pair] = f"no answer within {TIME_LIMIT_S:.0f} s"
                break
            if not line:
                messages.seek(0)
                last = (messages.read().strip().splitlines() or ["no message"])[-1]
                outcomes[pair] = f"ended with code {code}: {last}"
                break
            outcomes[pair] = json.loads(line)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=TIME_LIMIT_S)
    return outcomes


def _pass_on(stream: IO[str], lines: queue.Queue[str]) -> None:
    """Put its lines, then an empty one into the queue, on a thread: a driver can hold back a killed process's pipe."""
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")


def copy_and_verify(source: str, target: str, num_bytes: int = _COPY_BYTES) -> dict[str, int | float | bool]:
    """Copy a pattern from device `source` to `target` and count the bytes that are right.

    At the target, against the same pattern made there; at the source, after the copy has come back by
    way of the host.
    """
    count = num_bytes // 4
    pattern = _pattern(count, source)
    arrived = pattern.to(target, copy=True)
    _synchronize(source, target)
    right_at_target = int((arrived == _pattern(count, target)).sum()) * 4
    right_at_source = int((arrived.cpu().to(source) == pattern).sum()) * 4
    start = time.perf_counter()
    for _ in range(_REPEATS):
        arrived.copy_(pattern)
    _synchronize(source, target)
    seconds = time.perf_counter() - start
    pair = (torch.device(source).index, torch.device(target).index)
    return {
        "num_bytes": count * 4,
        "right_at_target": right_at_target,
        "right_at_source": right_at_source,
        "bytes_per_s": _REPEATS * count * 4 / seconds,
        "peer_access": None not in pair and torch.cuda.can_device_access_peer(*pair),
    }


def _pattern(count: int, device: str) -> torch.Tensor:
    """Return (count,) int32 in which every value differs from its neighbours and none is 0."""
    return torch.arange(1, count + 1, dtype=torch.int32, device=device) * 31


def _synchronize(*devices: str) -> None:
    for device in devices:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        source_device, target_device = argument.split(",")
        print(json.dumps(copy_and_verify(source_device, target_device)), flush=True)
