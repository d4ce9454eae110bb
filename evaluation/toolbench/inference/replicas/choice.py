"""Chooses the layout of a run on this machine: reads the GPUs, the main memory and the checkpoint's sizes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.host_memory import available_bytes
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus, visible_gpus
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.inference.multi_gpu.placement import Placement
from evaluation.toolbench.inference.multi_gpu.planning import AS_STORED, footprint_on, plan_run
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.usability import refuse_large_on_cpu
from evaluation.toolbench.inference.replicas.layout import RunLayout, cpu_layout, one_replica, planned_layout


def choose_layout(
    model_path: str,
    gpus: GpuConfig,
    workload: Workload,
    formats: NumberFormats = AS_STORED,
) -> RunLayout:
    """Return the layout that `gpus.num_replicas` asks for, for this workload; the GPUs as they are now.

    1 is one replica where `load_model` puts it, over all GPUs; auto leaves the number to the planner, whose
    placement then holds. There are never more replicas than queries. ConfigError, DataError or PlacementError for what
    cannot be.
    """
    wanted = gpus.num_replicas
    visible = visible_gpus()[: gpus.num_gpus]
    here = one_replica(tuple(f"cuda:{gpu.cuda_index}" for gpu in visible), tuple(gpu.uuid for gpu in visible))
    num_replicas = None if wanted == AUTO else min(int(wanted), workload.queries)
    if num_replicas == 1:
        return here
    host_bytes = available_bytes()
    if not visible:
        return _on_cpu(model_path, formats, num_replicas or 1, host_bytes)

    def plan(count: int | None) -> Placement:
        found = plan_run(model_path, replace(gpus, num_replicas=count or AUTO), workload, formats)
        assert found is not None  # there are GPUs
        return found

    return planned_layout(_plan_or_say_how_many_fit(plan, num_replicas), host_bytes)


def _on_cpu(model_path: str, formats: NumberFormats, num_replicas: int, host_bytes: int) -> RunLayout:
    if num_replicas == 1:
        return one_replica()
    footprint = footprint_on(None, model_path, formats)
    refuse_large_on_cpu(inspect_gpus(), footprint.model, footprint.weight_bytes)  # replicas see no GPU to complain of
    return cpu_layout(num_replicas, footprint.weight_bytes, host_bytes, len(os.sched_getaffinity(0)))


def _plan_or_say_how_many_fit(plan: Callable[[int | None], Placement], num_replicas: int | None) -> Placement:
    """Return the plan; a PlacementError for more replicas than fit says how many do."""

    def fits(count: int) -> bool:
        try:
            plan(count)
        except PlacementError:
            return False
        return True

    try:
        return plan(num_replicas)
    except PlacementError as error:
        if num_replicas is None or num_replicas == 1 or not fits(1):
            raise
        most, too_many = 1, num_replicas
        while too_many - most > 1:
            middle = (most + too_many) // 2
            most, too_many = (middle, too_many) if fits(middle) else (most, middle)
        details = {**error.details, "num_replicas": num_replicas, "fitting": most}
        raise PlacementError(f"--num_replicas {num_replicas}: {most} fit here. {error}", **details) from error
