"""Shows where a GPU's time goes while something runs, by kind of kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# Parts of kernel names, in lower case; the first kind with a match counts.
_KINDS = {
    "attention": ("_attend", "_join_parts", "flash", "fmha"),
    "writing keys and values": ("_write_token",),
    "matrix products": ("gemm", "cutlass", "nvjet", "xmma", "cublas", "splitk", "gemv"),
    "copies": ("memcpy", "memset"),
    "sampling": ("argmax", "sort", "scan"),
}
_OTHER = "element by element"
_KERNELS_NAMED, _GAPS_NAMED = 24, 8


def gpu_time_table(work: Callable[[], object], num_steps: Callable[[], int]) -> str:
    """Runs `work`; seconds and shares of each kind of kernel on each GPU, of the time in which it is idle, the kernels
    of a step that take longest, and those between which nothing ran. `num_steps` counts the steps of all that has run.

    Profiling takes time of its own, which counts as idle: it is an upper limit. Kernels that ran side by side count
    one by one, so that all parts together may be more than the whole; a line says by how much.
    """
    before = num_steps()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        start = time.perf_counter()
        work()
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)
        seconds = time.perf_counter() - start
    by_gpu: dict[int, list[Kernel]] = {}
    for event in profiler.events():
        if event.device_type == DeviceType.CUDA:
            kernel = Kernel(event.name, event.time_range.start, event.time_range.end)
            by_gpu.setdefault(event.device_index, []).append(kernel)
    return "\n".join(
        line
        for index, kernels in sorted(by_gpu.items())
        for line in gpu_lines(index, kernels, seconds, max(1, num_steps() - before))
    )


@dataclass(frozen=True, slots=True)
class Kernel:
    """Describes one run of a kernel; times in microseconds."""

    name: str
    start: float
    end: float


def gpu_lines(index: int, kernels: Sequence[Kernel], seconds: float, num_steps: int) -> Iterator[str]:
    """Yield the table of one GPU that ran these within `seconds`."""
    kinds: dict[str, float] = {}
    names: dict[str, list[float]] = {}
    for kernel in kernels:
        kind, taken = kind_of_kernel(kernel.name), (kernel.end - kernel.start) / 1e6
        kinds[kind] = kinds.get(kind, 0.0) + taken
        names.setdefault(kernel.name, []).append(taken)
    busy = covered((kernel.start, kernel.end) for kernel in kernels) / 1e6
    counted_twice = sum(kinds.values()) - busy
    kinds["idle"] = max(0.0, seconds - busy)
    yield f"{f'part of the time of cuda:{index}':<60}{'seconds':>9}{'share':>8}{'ms a step':>11}"
    for kind, part in sorted(kinds.items(), key=lambda item: -item[1]):
        yield f"{kind:<60}{part:>9.2f}{part / seconds:>8.1%}{1e3 * part / num_steps:>11.3f}"
    yield f"{'counted twice, side by side':<60}{counted_twice:>9.2f}{'':>8}{1e3 * counted_twice / num_steps:>11.3f}"
    yield f"{f'kernel ({len(kernels) / num_steps:.0f} a step)':<60}{'a step':>9}{'us each':>8}{'ms a step':>11}"
    for name, times in sorted(names.items(), key=lambda item: -sum(item[1]))[:_KERNELS_NAMED]:
        share = f"{1e6 * sum(times) / len(times):>8.1f}{1e3 * sum(times) / num_steps:>11.3f}"
        yield f"{name[:59]:<60}{len(times) / num_steps:>9.1f}{share}"
    yield f"{'nothing ran between':<60}{'a step':>9}{'us each':>8}{'ms a step':>11}"
    for (before, after), times in sorted(gaps(kernels).items(), key=lambda item: -sum(item[1]))[:_GAPS_NAMED]:
        share = f"{sum(times) / len(times):>8.1f}{sum(times) / 1e3 / num_steps:>11.3f}"
        yield f"{f'{before[:28]} .. {after[:28]}':<60}{len(times) / num_steps:>9.1f}{share}"


def gaps(kernels: Iterable[Kernel]) -> dict[tuple[str, str], list[float]]:
    """Return the microseconds without any kernel, by the names of the one that ended last and the one that follows."""
    found: dict[tuple[str, str], list[float]] = {}
    last: Kernel | None = None
    for kernel in sorted(kernels, key=lambda kernel: kernel.start):
        if last is not None and kernel.start > last.end:
            found.setdefault((last.name, kernel.name), []).append(kernel.start - last.end)
        if last is None or kernel.end > last.end:
            last = kernel
    return found


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return how much lies within at least one of the (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def kind_of_kernel(name: str) -> str:
    lowered = name.lower()
    return next((kind for kind, marks in _KINDS.items() if any(mark in lowered for mark in marks)), _OTHER)
