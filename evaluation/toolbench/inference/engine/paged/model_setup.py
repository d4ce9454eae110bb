"""Readies a model for the engine: its stages, made faster where that is asked for, and the memory of a step on them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.device import warn_of_few_queues
from evaluation.toolbench.inference.engine.paged.execution import (
    compilation,
    few_rows_linear,
    joined_linear,
    last_layer,
)
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage, stages_of, with_own_modules
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.working_memory import (
    activation_bytes_per_token,
    logits_bytes,
    rows_of_a_step,
    working_bytes,
)
from evaluation.toolbench.inference.engine.quantized_linear import unpacked_bytes


def prepared_stages(
    model: PreTrainedModel,
    compile_layers: bool | None,
    before_compiling: Callable[[], None] | None,
    join_linears: bool | None,
    few_rows: bool | None,
    thin_last_layer: bool | None,
) -> list[Stage]:
    """Return the stages of `model`, made faster as asked for, or, where nothing is said, if the model is worth it."""
    stages = stages_of(model)
    warn_of_few_queues({stage.device for stage in stages})
    is_worth_it = compilation.is_worth_compiling(model, stages)
    if join_linears is None:
        join_linears = is_worth_it
    if few_rows is None:
        few_rows = is_worth_it
    if thin_last_layer is None:
        thin_last_layer = is_worth_it
    if compile_layers is None:
        compile_layers = is_worth_it
    own = with_own_modules(model, stages) if join_linears or few_rows or thin_last_layer else None
    if own is not None:
        stages = own
        if join_linears:
            joined_linear.join_linears(stages)
        if few_rows:
            few_rows_linear.use_few_rows(stages)
    if compile_layers:
        if before_compiling is not None:
            before_compiling()
        compile_layers = compilation.compile_layers(stages)
    if thin_last_layer and own is not None:
        stages = last_layer.use_thin_last_layer(stages, compile_it=compile_layers)
    return stages


def bytes_of_a_step(
    model: PreTrainedModel, vocab_size: int, stages: list[Stage], limits: Limits
) -> Callable[[torch.device], int]:
    """Return what tells a step's bytes on a device beside weights and pages; logits are at the output embedding."""
    config = model.config.get_text_config()
    intermediate_size = int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    activation_bytes = activation_bytes_per_token(int(config.hidden_size), intermediate_size, model.dtype.itemsize)
    everywhere = working_bytes(activation_bytes, limits, len(stages)) + unpacked_bytes(model, model.dtype.itemsize)
    at_head = logits_bytes(rows_of_a_step(limits.max_running, len(stages), limits), vocab_size)
    head_device = stages[-1].device if len(stages) == 1 else model.get_output_embeddings().weight.device
    return lambda device: everywhere + (at_head if device == head_device else 0)
