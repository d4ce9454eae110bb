"""Where a GPU's time goes while something runs, by kind of kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

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


def gpu_time_table(work: Callable[[], object]) -> str:
    """Runs `work`; seconds and shares of each kind of kernel on each GPU, and of the time in which it is idle.

    Profiling takes time of its own, which counts as idle: it is an upper limit. Kernels that ran side by side count
    one by one, so that all parts together may be more than the whole.
    """
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        start = time.perf_counter()
        work()
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)
        seconds = time.perf_counter() - start
    parts_s: dict[int, dict[str, float]] = {}
    spans: dict[int, list[tuple[float, float]]] = {}
    for event in profiler.events():
        if event.device_type == DeviceType.CUDA:
            parts = parts_s.setdefault(event.device_index, {})
            kind = kind_of_kernel(event.name)
            parts[kind] = parts.get(kind, 0.0) + event.self_device_time_total / 1e6
            spans.setdefault(event.device_index, []).append((event.time_range.start, event.time_range.end))
    lines = []
    for index, parts in sorted(parts_s.items()):
        parts["idle"] = max(0.0, seconds - covered(spans[index]) / 1e6)
        lines.append(f"{f'part of the time of cuda:{index}':<26}{'seconds':>9}{'share':>8}")
        for kind, part in sorted(parts.items(), key=lambda item: -item[1]):
            lines.append(f"{kind:<26}{part:>9.2f}{part / seconds:>8.1%}")
    return "\n".join(lines)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How much lies within at least one of the (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def kind_of_kernel(name: str) -> str:
    lowered = name.lower()
    return next((kind for kind, marks in _KINDS.items() if any(mark in lowered for mark in marks)), _OTHER)
