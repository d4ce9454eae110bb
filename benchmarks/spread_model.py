"""A random model over several GPUs, by the planner's map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import dispatch_model
from transformers import PreTrainedConfig, PreTrainedModel

from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, PlannedReplica, Workload, fit_replica
from evaluation.toolbench.inference.multi_gpu.units import GIB

_LONGEST = 4096  # tokens that the plan keeps for a conversation: the workload's have fewer
_MOST_AT_ONCE = 64


def plan(config: PreTrainedConfig, targets: Sequence[GpuBudget], dtype: torch.dtype) -> PlannedReplica:
    """Over all of `targets`, with as many conversations as there is room for. PlacementError."""
    workload = Workload(_MOST_AT_ONCE, _LONGEST)
    replica = fit_replica(footprint_of_config(config, dtype), targets, workload, conversations=_MOST_AT_ONCE)
    if replica is None:
        raise PlacementError(f"no room for the model on {len(targets)} GPUs of {targets[0].budget_bytes / GIB:.1f} GiB")
    return replica


def spread(model: PreTrainedModel, replica: PlannedReplica) -> PreTrainedModel:
    """`model`, which was made on the first GPU, where the plan puts it: as `from_pretrained` does with a map."""
    if len(replica.shards) == 1:
        return model
    model = dispatch_model(model, device_map=replica.device_map)
    torch.cuda.empty_cache()  # the first GPU held all of it
    return model
