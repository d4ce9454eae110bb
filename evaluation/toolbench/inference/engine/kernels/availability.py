"""Tells whether Triton's kernels can run on a GPU: that it is installed is not enough."""

from __future__ import annotations

import functools
import importlib.util
import logging

import torch

from evaluation.toolbench.inference.engine.kernels.cache import launch
from evaluation.toolbench.inference.errors import first_line

logger = logging.getLogger(__name__)


@functools.cache
def triton_works(device: torch.device) -> bool:
    """Return whether Triton compiles a small kernel for `device` and launches it; a warning says why not.

    Triton needs a C compiler on the machine and a GPU of a generation that it supports, and tells so only
    at the first launch.
    """
    if importlib.util.find_spec("triton") is None:
        logger.warning("steps on %s will be slow, without kernels and CUDA graphs: triton is not installed", device)
        return False
    try:
        from evaluation.toolbench.inference.engine.kernels import triton_probe

        numbers = torch.zeros(2, 16, device=device)
        launch(lambda: triton_probe.copy_numbers(numbers[0], numbers[1]))
    except Exception as error:
        logger.warning(
            "steps on %s will be slow, without kernels and CUDA graphs: Triton fails: %s", device, first_line(error)
        )
        return False
    return True
