"""Plans a run on this machine: reads the checkpoint's sizes and the GPUs, and asks the planner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from evaluation.toolbench.inference.host_memory import available_bytes
from evaluation.toolbench.inference.memory_shares import HOST_SHARE
from evaluation.toolbench.inference.multi_gpu.dtypes import keep_fp8, require_fp8, resolve_dtype
from evaluation.toolbench.inference.multi_gpu.footprint import (
    Footprint,
    footprint_of_checkpoint,
    footprint_of_config,
    toolgen_8b_config,
)
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus, visible_gpus
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.placement import Placement, budgets_of, plan_placement
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.usability import refuse_closed, require_usable

PLANNED = GpuConfig(num_replicas=AUTO)  # everything is left to the planner
AS_STORED = NumberFormats()


def plan_run(
    model_path: str,
    config: GpuConfig = PLANNED,
    workload: Workload | None = None,
    formats: NumberFormats = AS_STORED,
) -> Placement | None:
    """Return where the model at `model_path` goes on the GPUs as they are now; None on a machine without one.

    Raises DataError for a checkpoint that cannot be used, ConfigError for what cannot be read, PlacementError
    for what does not fit.
    """
    require_usable(inspect_gpus())
    gpus = visible_gpus()
    used = gpus[: config.num_gpus]
    footprint = footprint_on(used, model_path, formats)
    return plan_for(footprint, gpus, config, workload) if gpus else None


def footprint_on(gpus: Sequence[Gpu] | None, model_path: str | None, formats: NumberFormats) -> Footprint:
    """Return the footprint in these formats on these GPUs (None: on the CPU); without a path, of the 8B shape.

    Raises as `footprint_of_checkpoint`, and ConfigError for formats that a card does not have.
    """
    dtype, cards = resolve_dtype(formats.dtype, gpus), gpus or ()
    if formats.weights == "fp8":
        require_fp8(dtype, cards)
    weights, kv_cache = formats.weights, formats.kv_cache
    if model_path is None:
        shape, name = toolgen_8b_config(), "ToolGen-Llama-3-8B"
        return footprint_of_config(shape, dtype, name=name, weights=weights, kv_cache=kv_cache)
    return footprint_of_checkpoint(model_path, dtype, fp8=keep_fp8(cards), weights=weights, kv_cache=kv_cache)


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
