"""Plans a run on this machine: reads the checkpoint's sizes and the GPUs, and asks the planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import psutil  # type: ignore[import-untyped]

from evaluation.toolbench.inference.multi_gpu.footprint import Footprint, footprint_of_checkpoint
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus, require_usable, visible_gpus
from evaluation.toolbench.inference.multi_gpu.loading import resolve_dtype
from evaluation.toolbench.inference.multi_gpu.memory_map import DEFAULT_SHARE
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.placement import Placement, budgets_of, plan_placement
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload


def plan_run(
    model_path: str,
    *,
    workload: Workload | None = None,
    num_gpus: int | None = None,
    num_replicas: int | None = None,
    max_gpu_memory: str | Mapping[int, str] | None = None,
    dtype: str = "auto",
    cpu_offloading: bool = False,
) -> Placement | None:
    """The layout for the model at `model_path` over the GPUs as they are now; None on a machine without one.

    `num_gpus` and `num_replicas` None leave the number to the planner. Raises DataError for a checkpoint
    that cannot be used, ConfigError for what cannot be read, PlacementError for what does not fit.
    """
    require_usable(inspect_gpus())
    footprint = footprint_of_checkpoint(model_path, resolve_dtype(dtype, on_cpu=False))
    gpus = visible_gpus()
    if not gpus:
        return None
    return plan_for(
        footprint,
        gpus,
        workload=workload,
        num_gpus=num_gpus,
        num_replicas=num_replicas,
        max_gpu_memory=max_gpu_memory,
        cpu_offloading=cpu_offloading,
    )


def plan_for(
    footprint: Footprint,
    gpus: Sequence[Gpu],
    *,
    workload: Workload | None = None,
    num_gpus: int | None = None,
    num_replicas: int | None = None,
    max_gpu_memory: str | Mapping[int, str] | None = None,
    cpu_offloading: bool = False,
) -> Placement:
    """As `plan_run`, for a footprint and GPUs that have been read; conversations no longer than the model's context."""
    workload = workload or Workload()
    workload = replace(workload, max_tokens=min(workload.max_tokens, footprint.max_length))
    return plan_placement(
        footprint,
        budgets_of(gpus, max_gpu_memory, num_gpus),
        workload,
        num_gpus=num_gpus,
        num_replicas=num_replicas,
        cpu_bytes=int(psutil.virtual_memory().available * DEFAULT_SHARE) if cpu_offloading else 0,
    )
