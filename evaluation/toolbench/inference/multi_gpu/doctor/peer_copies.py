"""Copies between GPUs, for real: what arrives is compared on both sides.

On some hosts (consumer cards, IOMMU) CUDA reports peer access that delivers garbage, and a model
spread over such GPUs talks garbage. Each copy runs in a process of its own with a time limit, because a
copy can also hang.

    python -m evaluation.toolbench.inference.multi_gpu.doctor.peer_copies cuda:0 cuda:1
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import torch

from evaluation.toolbench.inference.multi_gpu.doctor.finding import Finding, needs
from evaluation.toolbench.inference.multi_gpu.doctor.machine import Machine
from evaluation.toolbench.inference.multi_gpu.units import MIB

TIME_LIMIT_S = 60.0
_COPY_BYTES = 64 * MIB
_REPEATS = 8
_ROOT = Path(__file__).resolve().parents[5]
_ADVICE = (
    "one replica per GPU is not affected (--num_replicas {count}); for a model over several GPUs update the driver, "
    "switch the IOMMU or ACS off in the BIOS, or hide one GPU of the pair"
)


def check_peer_copies(machine: Machine) -> list[Finding]:
    """A finding for every ordered pair of visible GPUs."""
    count = len(machine.gpus)
    if count < 2:
        return [needs("peer copies", 2, count)]
    return [judge_pair(source, target, count) for source, target in permutations(range(count), 2)]


def judge_pair(source: int, target: int, num_gpus: int, command: Sequence[str] | None = None) -> Finding:
    """Runs one copy and judges it; `command` stands in for the process that copies."""
    name = f"copy {source} -> {target}"
    advice = _ADVICE.format(count=num_gpus)
    own_command = [sys.executable, "-m", __name__, f"cuda:{source}", f"cuda:{target}"]
    try:
        done = subprocess.run(
            command or own_command, cwd=_ROOT, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "fail", f"no answer within {TIME_LIMIT_S:.0f} s", advice)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(name, "fail", f"ended with code {done.returncode}: {last}", advice)
    facts = json.loads(done.stdout.splitlines()[-1])
    wrong = facts["num_bytes"] - min(facts["right_at_target"], facts["right_at_source"])
    if wrong:
        access = "although CUDA reports peer access" if facts["peer_access"] else "without peer access"
        measured = f"{wrong:,} of {facts['num_bytes']:,} bytes arrive wrong, {access}"
        return Finding(name, "fail", measured, advice, facts=facts)
    how = "peer access" if facts["peer_access"] else "through the host"
    return Finding(name, "ok", f"{facts['bytes_per_s'] / 1e9:.1f} GB/s, {how}, all bytes right", facts=facts)


def copy_and_verify(source: str, target: str, num_bytes: int = _COPY_BYTES) -> dict[str, int | float | bool]:
    """Copies a pattern from device `source` to `target` and counts the bytes that are right.

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
    """(count,) int32 in which every value differs from its neighbours and none is 0."""
    return torch.arange(1, count + 1, dtype=torch.int32, device=device) * 31


def _synchronize(*devices: str) -> None:
    for device in devices:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)


if __name__ == "__main__":
    print(json.dumps(copy_and_verify(sys.argv[1], sys.argv[2])))
