"""Measures on the spot what a device can do: how fast it copies memory and how fast it multiplies matrices.

Predictions and shares of the limit are taken from these two numbers, not from a datasheet. Random data,
since a GPU multiplies zeros faster than anything real.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_WARM_S = 2.0


@dataclass(frozen=True)
class Ceilings:
    """`bytes_per_s` counts bytes read plus bytes written; `flop_per_s` is for bfloat16, on the CPU float32.

    `lasting_flop_per_s` is what is left of that after two seconds: a GPU lowers its clocks to stay within its power.
    """

    bytes_per_s: float
    flop_per_s: float
    lasting_flop_per_s: float

    def seconds(self, num_bytes: float, flop: float) -> float:
        """Return the shortest time for work that moves this many bytes and does this many operations."""
        return max(num_bytes / self.bytes_per_s, flop / self.flop_per_s)

    def __str__(self) -> str:
        lasting = f"{self.lasting_flop_per_s / 1e12:.3g} after two seconds"
        return f"copy {self.bytes_per_s / 1e9:.0f} GB/s, matrix product {self.flop_per_s / 1e12:.3g} TFLOP/s, {lasting}"


def measure_ceilings(device: torch.device) -> Ceilings:
    """Return a large copy and a large matrix product: three seconds, and 4 GiB of a GPU's memory meanwhile."""
    ceilings = Ceilings(_copy_rate(device), *_product_rates(device))
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what comes next may size itself by the memory that is free
    return ceilings


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Return the median time that `device` takes for `work`, a GPU by its own events, after three calls to warm up."""
    for _ in range(3):
        work()
    time_once = _gpu_seconds if device.type == "cuda" else _cpu_seconds
    return statistics.median(time_once(work) for _ in range(repeats))


def captured(work: Callable[[], object], warm_up: Callable[[], object]) -> Callable[[], object]:
    """Return `work` as a CUDA graph, so that launching its kernels costs little; `warm_up` sets them up before."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        warm_up()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    return graph.replay


def _copy_rate(device: torch.device) -> float:
    source = torch.empty(2**30 if device.type == "cuda" else 2**24, dtype=_dtype(device), device=device).uniform_()
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size()
    return copied / median_seconds(lambda: target.copy_(source), device)


def _product_rates(device: torch.device) -> tuple[float, float]:
    """Return the rate of a few products, and that of many after `_WARM_S` of them; of a CPU the same twice."""
    size = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(size, size, dtype=_dtype(device), device=device) for _ in range(2))

    def rate() -> float:
        return 2 * size**3 / median_seconds(lambda: left @ right, device)

    at_first = rate()
    if device.type != "cuda":
        return at_first, at_first
    until = time.perf_counter() + _WARM_S
    while time.perf_counter() < until:
        rate()
    return at_first, rate()


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _gpu_seconds(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def describe_machine(device: torch.device) -> str:
    """Return the GPU and the versions that results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    versions = [f"torch {torch.__version__}"]
    for package in ("transformers", "triton"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, {', '.join(versions)}"
