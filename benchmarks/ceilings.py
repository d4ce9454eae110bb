"""What this GPU can do, measured on the spot: how fast it copies memory and how fast it multiplies matrices.

Predictions and shares of the limit are taken from these two numbers, not from a datasheet. Random data,
since a GPU multiplies zeros faster than anything real.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ceilings:
    """`bytes_per_s` counts bytes read plus bytes written; `flop_per_s` is for bfloat16."""

    bytes_per_s: float
    flop_per_s: float

    def seconds(self, num_bytes: float, flop: float) -> float:
        """The shortest time for work that moves so many bytes and does so many operations."""
        return max(num_bytes / self.bytes_per_s, flop / self.flop_per_s)

    def __str__(self) -> str:
        return f"copy {self.bytes_per_s / 1e12:.2f} TB/s, bfloat16 matrix product {self.flop_per_s / 1e12:.0f} TFLOP/s"


def measure_ceilings(device: torch.device) -> Ceilings:
    """A copy of 2 GiB and a product of 8192 x 8192 matrices, a quarter of a second in all."""
    source = torch.empty(2**30, dtype=torch.bfloat16, device=device).uniform_()
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size()
    copy_s = median_seconds(lambda: target.copy_(source))
    size = 8192
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    product_s = median_seconds(lambda: left @ right)
    return Ceilings(bytes_per_s=copied / copy_s, flop_per_s=2 * size**3 / product_s)


def median_seconds(work: Callable[[], object], repeats: int = 10) -> float:
    """Median time that the current GPU takes for `work`, by its own events, after three calls to warm up."""
    for _ in range(3):
        work()
    times_ms = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times_ms.append(start.elapsed_time(end))
    return statistics.median(times_ms) / 1e3


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
