"""Knows where tensors belong, and how they get there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel


def embedding_device(model: PreTrainedModel) -> torch.device:
    """Return where input ids belong, whatever GPU the first layer lies on."""
    hook = getattr(model.get_input_embeddings(), "_hf_hook", None)
    execution_device = getattr(hook, "execution_device", None)
    if execution_device is not None:  # weights that are offloaded come to this device when they are used
        return torch.device(execution_device)
    return model.get_input_embeddings().weight.device


def to_device(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return `values` as a tensor on `device`. Pinned memory, so that the host does not wait for the GPU's queue."""
    host = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)
