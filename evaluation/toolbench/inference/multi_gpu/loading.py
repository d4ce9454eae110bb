"""Puts a checkpoint's weights where the plan says: on one GPU, over several, or on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evaluation.toolbench.inference.errors import ConfigError, DataError, PlacementError, first_line
from evaluation.toolbench.inference.host_memory import available_bytes
from evaluation.toolbench.inference.memory_shares import HOST_SHARE
from evaluation.toolbench.inference.multi_gpu.checkpoint import read_checkpoint, read_config
from evaluation.toolbench.inference.multi_gpu.device_maps import auto_device_map, unevenness, weights_by_place
from evaluation.toolbench.inference.multi_gpu.dtypes import keep_fp8, require_fp8, resolve_dtype
from evaluation.toolbench.inference.multi_gpu.fitting import fit_replica
from evaluation.toolbench.inference.multi_gpu.footprint import (
    Footprint,
    footprint_of_checkpoint,
    footprint_of_config,
)
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus, visible_gpus
from evaluation.toolbench.inference.multi_gpu.lora import merged_model, moved
from evaluation.toolbench.inference.multi_gpu.memory_map import max_memory_of
from evaluation.toolbench.inference.multi_gpu.misfit import describe_misfit
from evaluation.toolbench.inference.multi_gpu.model_files import find_model
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats, require_own_weights
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.placement import capped_budgets
from evaluation.toolbench.inference.multi_gpu.quantized_loading import (
    quantization,
    quantize,
    require_torchao,
    use_plain_tensors,
)
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, PlannedReplica, Workload
from evaluation.toolbench.inference.multi_gpu.units import format_exact, gib
from evaluation.toolbench.inference.multi_gpu.usability import refuse_closed, refuse_large_on_cpu, require_usable

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)


def load_model(
    model_path: str,
    *,
    num_gpus: int = 1,
    max_gpu_memory: str | Mapping[int, str] | None = None,
    device: str = "cuda",
    cpu_offloading: bool = False,
    dtype: str = "auto",
    weights: str = AUTO,
) -> PreTrainedModel:
    """Load the model in eval mode, with `hf_device_map` saying which module lies where.

    With more than one GPU the layers go over the first `num_gpus` visible ones (`device_map="auto"`
    within the memory map of `build_max_memory`, or the planner's map where that leaves a GPU idle), with one to that
    one, without a GPU to the CPU.
    `device` may name another place ("cpu", "mps", "cuda:1"). `cpu_offloading` lets layers that do not
    fit the GPUs lie on the CPU. dtype "auto" is bfloat16 on GPUs that have it, float16 on others, and float32 on
    the CPU. `weights` "int8" or "fp8" quantises the decoder's linear layers one after another while they are loaded.

    Raises DataError for a checkpoint that cannot be used, ConfigError for an unknown device or dtype, or a format of
    weights that the card or the model cannot have, PlacementError for GPUs that are not there or too small.
    """
    formats = NumberFormats(dtype, weights)
    arguments, resolved = _device_arguments(model_path, num_gpus, max_gpu_memory, device, cpu_offloading, formats)
    return load_with(model_path, arguments, dtype=resolved, cpu_offloading=cpu_offloading, weights=weights)


def gpu_budgets(num_gpus: int, max_gpu_memory: str | Mapping[int, str] | None) -> dict[int, int]:
    """Return CUDA index -> bytes that `load_model` may use there now; the errors are those of `build_max_memory`."""
    return {budget.index: budget.num_bytes for budget in _budgets(visible_gpus(), num_gpus, max_gpu_memory)}


def load_replica(
    model_path: str, replica: PlannedReplica, *, dtype: str = "auto", visible: Sequence[Gpu] | None = None
) -> PreTrainedModel:
    """Load the model where the plan puts it, in any process that sees the replica's GPUs, however it numbers them.

    `visible` are the GPUs of this process, by default as they are now; dtype "auto" is the plan's, which knows
    the cards of all replicas, and the format of the weights is always the plan's. Raises as `load_model`, and
    PlacementError when a GPU has disappeared or filled up since the plan was made.
    """
    device_map = place_now(replica, visible_gpus() if visible is None else visible)
    resolved = resolve_dtype(replica.dtype if dtype == "auto" else dtype, ())
    return load_with(
        model_path,
        {"device_map": device_map},
        dtype=resolved,
        cpu_offloading=bool(replica.offloaded),
        weights=replica.weights,
    )


def place_now(replica: PlannedReplica, visible: Sequence[Gpu]) -> dict[str, int | str]:
    """Return the replica's device map in this process's CUDA indices. PlacementError when the plan no longer holds."""
    now = {gpu.uuid: gpu for gpu in visible}
    places: dict[int | str, int | str] = {"cpu": "cpu"}
    for shard in replica.shards:
        planned = shard.budget.gpu
        gpu = now.get(planned.uuid)
        if gpu is None or gpu.cuda_index is None:
            raise PlacementError(
                f"GPU {shard.index} ({planned.name}, {planned.uuid}) has disappeared since the layout was planned; "
                "look for Xid errors in the system log, or start again to plan without it",
                uuid=planned.uuid,
            )
        if gpu.free_bytes < shard.weight_bytes:
            holder = f" ({gpu.held_by})" if gpu.processes else ""
            raise PlacementError(
                f"GPU {shard.index} ({planned.name}) had {gib(planned.free_bytes)} free when the layout was planned "
                f"and has {gib(gpu.free_bytes)} now{holder}; {gib(shard.weight_bytes)} of weights were to go there. "
                "Start again to plan with what is free",
                uuid=planned.uuid,
            )
        places[shard.index] = gpu.cuda_index
    if len(replica.shards) == 1 and not replica.offloaded:
        return {"": places[replica.shards[0].index]}  # no hooks between modules
    return {name: places[place] for name, place in replica.device_map.items()}


def check_placement(model: PreTrainedModel, *, cpu_offloading: bool) -> None:
    """Raise PlacementError for a layer outside the GPUs unasked, DataError for weights never loaded or tied."""
    outside = [name for name, place in model.hf_device_map.items() if place in ("cpu", "disk")]
    if outside and len(outside) < len(model.hf_device_map) and not cpu_offloading:
        raise PlacementError(
            f"{', '.join(outside[:3])} would lie outside the GPUs, which makes every token slow; "
            "raise --max_gpu_memory, add a GPU, or accept it with --cpu_offloading",
            outside=outside,
        )
    unloaded = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if unloaded and not cpu_offloading:
        raise DataError(f"{len(unloaded)} parameters have no weights after loading, the first is {unloaded[0]}")
    head = model.get_output_embeddings()
    if model.config.get_text_config().tie_word_embeddings and head is not None and not cpu_offloading:
        embedding = model.get_input_embeddings()
        if embedding.weight.data_ptr() != head.weight.data_ptr():
            raise DataError("the config ties the head to the embedding, but after loading they are two tensors")


def spread(
    config: PretrainedConfig, footprint: Footprint, budgets: Sequence[GpuBudget], cpu_bytes: int = 0
) -> dict[str, Any]:
    """Returns `from_pretrained`'s arguments that put the weights on `budgets`, and on the CPU what `cpu_bytes` allow.

    `device_map="auto"` where its map uses every GPU evenly (see `device_maps.unevenness`; the installed transformers
    is asked), otherwise the planner's own map. PlacementError, with the numbers, when the weights and a first token
    do not fit.
    """
    least = Workload(conversations=1, max_tokens=1, queries=1)
    replica = fit_replica(footprint, budgets, least, conversations=1, cpu_bytes=cpu_bytes, uses_all=True)
    if replica is None:
        raise PlacementError(describe_misfit(footprint, budgets, least, 1, offloads=cpu_bytes > 0))
    if replica.offloaded:
        return {"device_map": replica.device_map}
    if len(budgets) == 1:
        return {"device_map": {"": budgets[0].index}}
    fault = None
    if footprint.weights == AUTO:  # "auto" would lay out the model that there is before it is quantised
        max_memory = {budget.index: format_exact(budget.num_bytes) for budget in budgets}
        auto = auto_device_map(config, getattr(torch, footprint.dtype), max_memory)
        fault = unevenness(auto, footprint, max_memory)
        if fault is None:
            return {"device_map": "auto", "max_memory": max_memory}
    usual = Workload(max_tokens=min(Workload.max_tokens, footprint.max_length))
    planned = fit_replica(footprint, budgets, usual, conversations=usual.conversations, uses_all=True)
    if planned is None or len(planned.gpus) < len(budgets):
        planned = replica
    if fault is None:
        return {"device_map": planned.device_map}
    weights = weights_by_place(planned.device_map, footprint).values()
    logger.warning(
        'device_map="auto" %s; the planner\'s map is used instead, with %s to %s of weights on each of %d GPUs',
        fault,
        gib(min(weights)),
        gib(max(weights)),
        len(weights),
    )
    return {"device_map": planned.device_map}


def load_with(
    model_path: str,
    arguments: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    cpu_offloading: bool = False,
    weights: str = AUTO,
) -> PreTrainedModel:
    """Load the checked model in eval mode; `arguments` are `from_pretrained`'s on placement, with `device_map`."""
    if weights != AUTO:
        require_torchao(weights)
        require_own_weights(weights, cpu_offloading=cpu_offloading)
    files = find_model(model_path)
    config = read_config(model_path)
    if not files.adapter:  # refused before a byte is loaded; an adapter may change shapes
        checkpoint = read_checkpoint(files.folder, getattr(config, "transformers_weights", None))
        footprint = footprint_of_config(config, name=files.name, checkpoint=checkpoint, weights=weights)
        quantized = {} if weights == AUTO else {"quantization_config": quantization(weights, footprint)}
        model = _from_pretrained(files.folder, config=config, dtype=dtype, **arguments, **quantized)
        if quantized:
            use_plain_tensors(model)
    elif weights == AUTO:
        model = merged_model(files, config, dtype=dtype, **arguments)
    else:
        footprint = footprint_of_config(config, name=files.name, weights=weights)
        merged = merged_model(files, config, dtype=dtype, device_map={"": "cpu"})
        model = moved(quantize(merged, weights, footprint), **arguments)
    if not hasattr(model, "hf_device_map"):  # accelerate sets it for several devices only
        model.hf_device_map = dict(arguments["device_map"])
    check_placement(model, cpu_offloading=cpu_offloading)
    return model.eval()


def _device_arguments(
    model_path: str,
    num_gpus: int,
    max_gpu_memory: str | Mapping[int, str] | None,
    device: str,
    cpu_offloading: bool,
    formats: NumberFormats,
) -> tuple[dict[str, Any], torch.dtype]:
    """Return `from_pretrained`'s arguments on placement, and the dtype for the place."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"torch does not know device={device!r}; use cuda, cuda:N, mps or cpu") from error
    if wanted.type != "cuda":
        return {"device_map": {"": str(wanted)}}, resolve_dtype(formats.dtype, None if wanted.type == "cpu" else ())
    found = inspect_gpus()
    require_usable(found)
    if wanted.index is not None:
        if wanted.index >= len(found.visible):
            raise PlacementError(
                f"device={device!r}, but CUDA sees {len(found.visible)} GPUs", visible=len(found.visible)
            )
        gpus = found.visible[wanted.index : wanted.index + 1]
        return {"device_map": {"": wanted.index}}, _dtype_on(gpus, formats)
    if not torch.cuda.is_available() and num_gpus <= 1:
        on_cpu = resolve_dtype(formats.dtype, None)
        if found.problem is not None:
            footprint = footprint_of_checkpoint(model_path, on_cpu)
            refuse_large_on_cpu(found, footprint.model, footprint.weight_bytes)
        logger.info("no GPU: the model goes to the CPU")
        return {"device_map": {"": "cpu"}}, on_cpu
    gpus = tuple(visible_gpus())
    if num_gpus <= 1 and max_gpu_memory is None and not cpu_offloading:
        budgets = [GpuBudget(gpus[0], gpus[0].free_bytes)]
    else:
        budgets = _budgets(gpus, num_gpus, max_gpu_memory)
    cards = [budget.gpu for budget in budgets]
    refuse_closed(cards)
    on_gpus = _dtype_on(cards, formats)
    cpu_bytes = int(available_bytes() * HOST_SHARE) if cpu_offloading else 0
    config = read_config(model_path)
    footprint = footprint_of_checkpoint(
        model_path, on_gpus, fp8=keep_fp8(cards), config=config, weights=formats.weights
    )
    return spread(config, footprint, budgets, cpu_bytes), on_gpus


def _dtype_on(gpus: Sequence[Gpu], formats: NumberFormats) -> torch.dtype:
    dtype = resolve_dtype(formats.dtype, gpus)
    if formats.weights == "fp8":
        require_fp8(dtype, gpus)
    return dtype


def _budgets(gpus: Sequence[Gpu], num_gpus: int, max_gpu_memory: str | Mapping[int, str] | None) -> list[GpuBudget]:
    return capped_budgets(gpus, max_memory_of(gpus, max(num_gpus, 1), max_gpu_memory))


def _from_pretrained(folder: Path, **arguments: Any) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    model_path = str(folder)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            model_path, output_loading_info=True, local_files_only=True, **arguments
        )
    except torch.OutOfMemoryError as error:
        raise PlacementError(f"out of GPU memory while loading {model_path}: {first_line(error)}") from error
    except Exception as error:  # transformers and the unpickler raise what they like over a broken checkpoint
        what = " ".join(str(error).split())[:300]
        raise DataError(f"cannot load {model_path}: {type(error).__name__}: {what}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise DataError(
            f"the weights in {model_path} lack {len(missing)} of the model's tensors, the first is {missing[0]}",
            missing=missing,
        )
    return model
