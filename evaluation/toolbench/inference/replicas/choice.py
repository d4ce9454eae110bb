"""Chooses the layout of a run on this machine: reads the GPUs, the main memory and the checkpoint's sizes."""

from __future__ import annotations

import os
from typing import Any

import psutil  # type: ignore[import-untyped]

from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_checkpoint
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
from evaluation.toolbench.inference.multi_gpu.loading import resolve_dtype
from evaluation.toolbench.inference.multi_gpu.placement import Placement
from evaluation.toolbench.inference.multi_gpu.planning import plan_run
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.replicas.layout import (
    MAX_CONVERSATIONS,
    RunLayout,
    cpu_layout,
    one_replica,
    planned_layout,
)

AUTO = "auto"
_PLANNED_BACKBONES = ("toolgen_atomic", "toolgen")


def choose_layout(args: Any, num_queries: int) -> RunLayout:
    """The layout that `--num_replicas` asks for, for `num_queries` queries; the GPUs as they are now.

    1 is one replica where `load_model` puts it, over all GPUs; auto leaves the number to the planner, whose
    placement then holds. There are never more replicas than queries. ConfigError, DataError or PlacementError
    for what cannot be.
    """
    wanted = args.num_replicas
    if args.backbone_model not in _PLANNED_BACKBONES or args.engine == "server":
        if wanted not in (AUTO, 1):
            reason = "the server has" if args.engine == "server" else f"--backbone_model {args.backbone_model} loads"
            raise ConfigError(f"--num_replicas {wanted}: {reason} the model by itself; use 1 or auto")
        return one_replica()
    gpus = visible_gpus()[: args.num_gpus]
    here = one_replica(tuple(f"cuda:{gpu.cuda_index}" for gpu in gpus), tuple(gpu.uuid for gpu in gpus))
    if wanted == 1:
        return here
    num_replicas = None if wanted == AUTO else min(int(wanted), max(num_queries, 1))
    if num_replicas == 1:
        return here
    host_bytes = int(psutil.virtual_memory().available)
    if not gpus:
        return _on_cpu(args, num_replicas or 1, host_bytes)
    return planned_layout(_plan(args, num_replicas, num_queries, len(gpus)), host_bytes)


def _on_cpu(args: Any, num_replicas: int, host_bytes: int) -> RunLayout:
    if num_replicas == 1:
        return one_replica()
    footprint = footprint_of_checkpoint(args.model_path, resolve_dtype(args.dtype, on_cpu=True))
    return cpu_layout(num_replicas, footprint.weight_bytes, host_bytes, len(os.sched_getaffinity(0)))


def _plan(args: Any, num_replicas: int | None, num_queries: int, num_gpus: int) -> Placement:
    """The planner's layout. PlacementError for more replicas than fit says how many do."""

    def plan(count: int | None) -> Placement:
        per_replica = MAX_CONVERSATIONS if args.num_thread == AUTO else int(args.num_thread)
        wanted = min(num_queries, per_replica * (count or num_gpus))
        found = plan_run(
            args.model_path,
            workload=Workload(conversations=max(wanted, 1), max_tokens=args.max_sequence_length),
            num_gpus=args.num_gpus,
            num_replicas=count,
            max_gpu_memory=args.max_gpu_memory,
            dtype=args.dtype,
            cpu_offloading=args.cpu_offloading,
        )
        assert found is not None  # there are GPUs
        return found

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
