"""Lays a random model over several GPUs, by the planner's map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import dispatch_model
from transformers import PreTrainedConfig, PreTrainedModel

from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.multi_gpu.fitting import fit_replica
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, PlannedReplica, Workload
from evaluation.toolbench.inference.multi_gpu.units import GIB

_LONGEST = 4096  # tokens that the plan keeps for a conversation: the workload's have fewer


def plan(
    config: PreTrainedConfig,
    budgets: Sequence[GpuBudget],
    dtype: torch.dtype,
    *,
    weights: str = AUTO,
    kv_cache: str = AUTO,
) -> PlannedReplica:
    """Plan over all of `budgets`, with as many conversations as there is room for. PlacementError."""
    workload = Workload(max_tokens=_LONGEST)
    footprint = footprint_of_config(config, dtype, weights=weights, kv_cache=kv_cache)
    replica = fit_replica(footprint, budgets, workload, conversations=workload.conversations)
    if replica is None:
        raise PlacementError(f"no room for the model on {len(budgets)} GPUs of {budgets[0].num_bytes / GIB:.1f} GiB")
    return replica


def spread(model: PreTrainedModel, replica: PlannedReplica) -> PreTrainedModel:
    """Lay `model`, made on the first GPU, where the plan puts it: as `from_pretrained` does with a map."""
    if len(replica.shards) == 1:
        return model
    model = dispatch_model(model, device_map=replica.device_map)
    torch.cuda.empty_cache()  # the first GPU held all of it
    return model
