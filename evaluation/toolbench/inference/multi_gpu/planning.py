"""Plans a run on this machine: reads the checkpoint's sizes and the GPUs, and asks the planner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from evaluation.toolbench.inference.host_memory import available_bytes
from evaluation.toolbench.inference.memory_shares import HOST_SHARE
from evaluation.toolbench.inference.multi_gpu.dtypes import keep_fp8, resolve_dtype
from evaluation.toolbench.inference.multi_gpu.footprint import Footprint, footprint_of_checkpoint
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus, visible_gpus
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.placement import Placement, budgets_of, plan_placement
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.usability import refuse_closed, require_usable

PLANNED = GpuConfig(num_replicas=AUTO)  # everything is left to the planner


def plan_run(
    model_path: str, config: GpuConfig = PLANNED, workload: Workload | None = None, dtype: str = AUTO
) -> Placement | None:
    """Return where the model at `model_path` goes on the GPUs as they are now; None on a machine without one.

    Raises DataError for a checkpoint that cannot be used, ConfigError for what cannot be read, PlacementError
    for what does not fit.
    """
    require_usable(inspect_gpus())
    gpus = visible_gpus()
    used = gpus[: config.num_gpus]
    footprint = footprint_of_checkpoint(model_path, resolve_dtype(dtype, used), fp8=keep_fp8(used))
    return plan_for(footprint, gpus, config, workload) if gpus else None


def plan_for(
    footprint: Footprint, gpus: Sequence[Gpu], config: GpuConfig = PLANNED, workload: Workload | None = None
) -> Placement:
    """Plan as `plan_run`, from what has been read; conversations are no longer than the model's context."""
    workload = workload or Workload()
    placement = plan_placement(
        footprint,
        budgets_of(gpus, config.max_gpu_memory, config.num_gpus),
        replace(workload, max_tokens=min(workload.max_tokens, footprint.max_length)),
        num_gpus=config.num_gpus,
        num_replicas=None if config.num_replicas == AUTO else config.num_replicas,
        cpu_bytes=int(available_bytes() * HOST_SHARE) if config.cpu_offloading else 0,
    )
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    used = Counter(shard.budget.gpu.uuid for replica in placement.replicas for shard in replica.shards)
    refuse_closed([by_uuid[uuid] for uuid in used], used)
    return placement
