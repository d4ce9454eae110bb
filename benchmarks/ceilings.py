"""What a device can do, measured on the spot: how fast it copies memory and how fast it multiplies matrices.

Predictions and shares of the limit are taken from these two numbers, not from a datasheet. Random data,
since a GPU multiplies zeros faster than anything real.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ceilings:
    """`bytes_per_s` counts bytes read plus bytes written; `flop_per_s` is for bfloat16, on the CPU float32."""

    bytes_per_s: float
    flop_per_s: float

    def seconds(self, num_bytes: float, flop: float) -> float:
        """The shortest time for work that moves so many bytes and does so many operations."""
        return max(num_bytes / self.bytes_per_s, flop / self.flop_per_s)

    def __str__(self) -> str:
        return f"copy {self.bytes_per_s / 1e12:.2f} TB/s, matrix product {self.flop_per_s / 1e12:.0f} TFLOP/s"


def measure_ceilings(device: torch.device) -> Ceilings:
    """A large copy and a large matrix product: a fraction of a second, and 4 GiB of a GPU's memory."""
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    source = torch.empty(2**30 if on_gpu else 2**24, dtype=dtype, device=device).uniform_()
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size()
    copy_s = median_seconds(lambda: target.copy_(source), device)
    size = 8192 if on_gpu else 512
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    product_s = median_seconds(lambda: left @ right, device)
    return Ceilings(bytes_per_s=copied / copy_s, flop_per_s=2 * size**3 / product_s)


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Median time that `device` takes for `work`, a GPU by its own events, after three calls to warm up."""
    for _ in range(3):
        work()
    time_once = _gpu_seconds if device.type == "cuda" else _cpu_seconds
    return statistics.median(time_once(work) for _ in range(repeats))


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
    """The GPU and the versions that results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    versions = [f"torch {torch.__version__}"]
    for package in ("transformers", "triton"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, {', '.join(versions)}"
