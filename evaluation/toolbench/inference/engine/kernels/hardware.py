"""Reads once what the kernels need to know of a card."""

from __future__ import annotations

import functools
import sys

import torch

# The first with matrix instructions that load from shared memory without waiting (mma.sync on copies that run
# ahead). Before it Triton multiplies element by element, and keeps whole operands in shared memory, of which there
# are 64 KiB: such cards get small tiles and no copies ahead.
_FIRST_WITH_ASYNC_COPIES = (8, 0)
_FIRST_WITH_FLOAT8 = (8, 9)
_SHARED_BYTES_OF_THE_SYSTEM = 1024  # that each block has beside its own


@functools.cache
def num_multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU; 1 for the CPU of Triton's interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@functools.cache
def is_old(device: torch.device) -> bool:
    """Return whether the card is older than Ampere (T4, RTX 2080 Ti, V100)."""
    return device.type == "cuda" and is_old_capability(torch.cuda.get_device_capability(device))


def is_old_capability(capability: tuple[int, int]) -> bool:
    """Return the same, of a compute capability."""
    return capability < _FIRST_WITH_ASYNC_COPIES


@functools.cache
def converts_float8(device: torch.device) -> bool:
    """Return whether the card has an instruction that makes float16 of e4m3 (RTX 4090, L4, H100 and newer)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FIRST_WITH_FLOAT8


@functools.cache
def shared_bytes(device: torch.device) -> int:
    """Return how much shared memory a block may have on a GPU of Ampere or newer; on the CPU there is no limit."""
    if device.type != "cuda":
        return sys.maxsize
    held: int = torch.cuda.get_device_properties(device).shared_memory_per_multiprocessor
    return held - _SHARED_BYTES_OF_THE_SYSTEM
