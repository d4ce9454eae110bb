"""Knows where tensors belong, and how they get there."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence

import torch
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine import QUEUES, QUEUES_VARIABLE

logger = logging.getLogger(__name__)


def warn_of_few_queues(devices: Collection[torch.device]) -> None:
    """Warn, where a model lies on several GPUs, that somebody has set them fewer hardware queues than its streams need.

    Training frameworks ask for one queue, and their users have that in their profiles.
    """
    num_gpus = sum(device.type == "cuda" for device in devices)
    asked = os.environ.get(QUEUES_VARIABLE, "")
    if num_gpus > 1 and asked.isdecimal() and int(asked) < QUEUES:
        logger.warning(
            f"{QUEUES_VARIABLE}={asked} is set, and a model over {num_gpus} GPUs needs {QUEUES}: they will wait for "
            f"one another, and steps will be slower. Start again after `unset {QUEUES_VARIABLE}`"
        )


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
