"""Splits a model over several devices into stages: on each device the same model with a run of its layers.

A stage is a real model of the same class with the model's own weights, so model code stays as it is, and
what serves a model on one device serves each stage: CUDA graphs and compilation, for example, which
cannot span devices. While one conversation's step is in the second stage, another's can be in the first.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_module
from torch import nn
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.device import embedding_device
from evaluation.toolbench.inference.engine.paged.attach import Paging, Probe

logger = logging.getLogger(__name__)

_PARTS = {"embed_tokens", "layers", "norm", "rotary_emb"}  # a decoder as it has to be, to be split


@dataclass(frozen=True, slots=True)
class Stage:
    """Runs the part of the decoder on one device; the whole of it where it could not be split."""

    decoder: Any  # a transformers base model
    device: torch.device
    is_first: bool = True  # takes token ids; the others take the hidden states of the stage before
    is_last: bool = True
    is_thin: bool = False  # the last layer computes wanted tokens alone where a step says which: see `last_layer`

    def forward(self, inputs: torch.Tensor, positions: torch.Tensor, paging: Paging) -> torch.Tensor:
        """Return (T, hidden size) for ids (T,) int64 in the first stage, for hidden states (T, hidden size) in
        others; where `paging` wants R tokens alone, and the stage is thin, (R, hidden size).
        """
        given = {"input_ids" if self.is_first else "inputs_embeds": inputs.unsqueeze(0)}
        output = self.decoder(**given, position_ids=positions.unsqueeze(0), use_cache=False, paging=paging)
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden


def stages_of(model: PreTrainedModel) -> list[Stage]:
    """Return the stages of `model`, attached to the pages already, in the order in which a token passes them.

    One stage, the model as it is, where all layers share a device, where weights are offloaded, and where
    the decoder is not built as those that can be split (it then runs with accelerate's hooks).
    """
    starts = _starts_of_devices(model)
    if len(starts) < 2:
        return [Stage(model.base_model, embedding_device(model))]
    stages = split(model, starts)
    if not _agree(model, stages):
        logger.warning(
            "%s computes something else when its layers are run in stages: its devices take turns", type(model).__name__
        )
        return [Stage(model.base_model, embedding_device(model))]
    return stages


def with_own_modules(model: PreTrainedModel, stages: Sequence[Stage]) -> list[Stage] | None:
    """Return the same stages with modules that can be changed without changing the model's; None if impossible."""
    if len(stages) > 1:
        return list(stages)
    return split(model, [0]) if _can_be_split(model) and devices_of(model) == {stages[0].device} else None


def devices_of(model: PreTrainedModel) -> set[torch.device]:
    """Return where its weights lie; those that are offloaded count as elsewhere."""
    return {tensor.device for tensor in model.parameters()}


def split(model: PreTrainedModel, starts: Sequence[int]) -> list[Stage]:
    """Return stages that begin at the layers `starts`, the first of them 0, each where its first layer lies."""
    decoder: Any = model.base_model
    ends = [*starts[1:], len(decoder.layers)]
    return [
        Stage(
            _run_of_layers(decoder, start, end),
            _device_of(decoder.layers[start]),
            is_first=start == 0,
            is_last=end == len(decoder.layers),
        )
        for start, end in zip(starts, ends, strict=True)
    ]


@torch.inference_mode()
def try_out(stages: Sequence[Stage], num_pairs: int = 1, probe: Probe | None = None) -> torch.Tensor:
    """Return (2 * num_pairs, hidden size): what the last stage makes of as many pairs of tokens, without attention."""
    probe = probe or Probe()
    hidden = torch.tensor([1, 0] * num_pairs)
    for stage in stages:
        positions = torch.tensor([0, 1] * num_pairs, device=stage.device)
        hidden = stage.forward(hidden.to(stage.device), positions, probe)
    return hidden


def _run_of_layers(decoder: Any, start: int, end: int) -> Any:
    """Return a base model with the layers from `start` to `end` and, past the first and before the last, no ends."""
    part = _without_hook(decoder)
    part.layers = nn.ModuleList(_without_hooks(layer) for layer in decoder.layers[start:end])
    device = _device_of(decoder.layers[start])
    part.rotary_emb = remove_hook_from_module(copy.deepcopy(decoder.rotary_emb)).to(device)
    if end < len(decoder.layers):
        part.norm = nn.Identity()
    return part


def _without_hooks(module: nn.Module) -> nn.Module:
    """Return a twin of `module` and all within it that shares their weights, without what accelerate has hung on them.

    Everything of a stage is on one device: hooks would only cost time, and keep layers from being compiled.
    """
    twin = _without_hook(module)
    children = twin._modules.items()
    twin._modules = {name: None if child is None else _without_hooks(child) for name, child in children}
    return twin


def _without_hook(module: nn.Module) -> Any:
    """Return a twin with the same weights and children."""
    twin = copy.copy(module)
    twin.__dict__ = {name: value for name, value in module.__dict__.items() if name not in _OF_HOOKS}
    twin._modules = dict(module._modules)
    return twin


_OF_HOOKS = {"forward", "_hf_hook", "_old_forward"}  # what accelerate puts on a module: bound to that very module


def _starts_of_devices(model: PreTrainedModel) -> list[int]:
    """Return the layers at which a new device begins, 0 first; only [0] where the model cannot be split there."""
    decoder: Any = model.base_model
    if not _can_be_split(model):
        return [0]
    devices = [{tensor.device for tensor in layer.parameters()} for layer in decoder.layers]
    ends = (decoder.embed_tokens.weight.device, decoder.norm.weight.device)
    if any(len(places) != 1 for places in devices) or [{ends[0]}, {ends[1]}] != [devices[0], devices[-1]]:
        return [0]
    return [0, *(index for index, (before, here) in enumerate(pairwise(devices), start=1) if before != here)]


def _can_be_split(model: PreTrainedModel) -> bool:
    children = dict(model.base_model.named_children())
    return set(children) == _PARTS and not any(tensor.is_meta for tensor in model.parameters())


def _agree(model: PreTrainedModel, stages: Sequence[Stage]) -> bool:
    """Return whether two tokens come out of the stages as they come out of the model."""
    whole = try_out([Stage(model.base_model, stages[0].device)])
    hidden = try_out(stages)
    return torch.allclose(hidden, whole.to(hidden.device))


def _device_of(layer: nn.Module) -> torch.device:
    return next(layer.parameters()).device
