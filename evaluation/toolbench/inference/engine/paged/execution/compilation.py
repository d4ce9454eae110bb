"""Compiles a decoder's layers by torch.compile, which fuses small operations (norms, rotations, activations).

On a GPU those take a fifth of a step of an 8B model when each is a kernel of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch._dynamo.config as dynamo
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.kernels.availability import triton_works
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage, devices_of, try_out
from evaluation.toolbench.inference.errors import first_line

logger = logging.getLogger(__name__)

_WORTH_IT = 10**9  # parameters: below, what is saved does not make up for half a minute of compilation
TYPICAL_PAIRS = 256  # of tokens in a step that reads prompts
_PER_DEVICE = 12  # compilations of the same code: for one token, few, many, without pages, in each of two callers


def is_worth_compiling(model: PreTrainedModel, stages: Sequence[Stage]) -> bool:
    """Return whether a run of minutes gains by it: a large model, each stage of it on one GPU that Triton knows."""
    devices = {stage.device for stage in stages}
    return (
        sum(parameter.numel() for parameter in model.parameters()) >= _WORTH_IT
        and devices_of(model) == devices
        and all(device.type == "cuda" and triton_works(device) for device in devices)
    )


def compile_layers(stages: Sequence[Stage]) -> bool:
    """Compile them, for steps of any size; False, with a warning and all as it was, where that does not work.

    Takes half a minute the first time; PyTorch keeps what it has compiled for the next process. The
    layers stay compiled after the engine is closed.
    """
    layers = [layer for stage in stages for layer in stage.decoder.layers]
    # PyTorch gives up on code that it had to compile too often; each device is a compilation of its own, now or later.
    dynamo.recompile_limit = max(dynamo.recompile_limit, _PER_DEVICE * len(stages))
    for layer in layers:
        layer.compile(dynamic=True)  # one compilation serves all layers of a device
    try:
        # Kernels are laid out for the size that they are compiled with first: made for two tokens, the activations of
        # 1,024 ran at a third of the memory's bandwidth.
        try_out(stages, TYPICAL_PAIRS)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        for layer in layers:
            layer._compiled_call_impl = None
        name = type(error).__name__
        logger.warning("layers are not compiled, steps will be slower: %s: %s", name, first_line(error))
        return False
    return True
