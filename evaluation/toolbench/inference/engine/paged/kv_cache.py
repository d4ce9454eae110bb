"""Holds the tensors behind the pages, and counts how many pages there is room for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from evaluation.toolbench.inference.engine.kernels.float8 import Scales
from evaluation.toolbench.inference.engine.paged.attach import LayerShape
from evaluation.toolbench.inference.engine.paged.page_copies import PageCopier
from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.host_memory import available_bytes
from evaluation.toolbench.inference.memory_shares import CPU_KV_SHARE, LOADED_GPU_SHARE

PAGE_SIZE = 64  # tokens; as many as the decode kernel takes at a time, so that a block lies in one page
_MIB = 2**20


class KvCache:
    """Holds keys and values of all layers, each layer on its own device: numbers, or 8-bit codes and their scales."""

    def __init__(self, layers: Sequence[LayerShape], num_pages: int, page_size: int) -> None:
        self.page_size = page_size
        self.devices = list(dict.fromkeys(layer.device for layer in layers))
        # One tensor a layer: (2, num_pages, page_size, num_kv_heads, head_dim), keys first.
        self._layers = [
            _zeros(
                (2, num_pages, page_size, layer.num_kv_heads, layer.head_dim),
                torch.uint8 if layer.is_float8 else layer.dtype,
                layer.device,
            )
            for layer in layers
        ]
        # (2, num_pages, num_kv_heads, page_size) each: a program of the kernels reads those of one head.
        self._scales = [
            _zeros((2, num_pages, layer.num_kv_heads, page_size), torch.float32, layer.device)
            if layer.is_float8
            else None
            for layer in layers
        ]
        all_held = [held for held in (*self._layers, *self._scales) if held is not None]
        self._copiers = [PageCopier([held for held in all_held if held.device == device]) for device in self.devices]

    def keys(self, layer: int) -> torch.Tensor:
        """Return (num_pages, page_size, num_kv_heads, head_dim)."""
        return self._layers[layer][0]

    def values(self, layer: int) -> torch.Tensor:
        return self._layers[layer][1]

    def scales(self, layer: int) -> Scales | None:
        """Return those of keys and of values, (num_pages, page_size, num_kv_heads) each; None where there are none."""
        scales = self._scales[layer]
        return None if scales is None else (scales[0].transpose(1, 2), scales[1].transpose(1, 2))

    def copy_pages(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy pages (from, to) in all layers, in order with the steps launched before and after.

        No page is both a source and a target.
        """
        if copies:
            for copier in self._copiers:
                copier.copy(copies)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return zeros of `shape`. Main memory is taken page by page as it is written to.

    PyTorch writes all zeros at once, which takes seconds and gigabytes that short runs never use; NumPy leaves them to
    the operating system.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)


def count_pages(
    layers: Sequence[LayerShape],
    page_size: int,
    *,
    working_bytes: Callable[[torch.device], int],
    max_pages: int,
    max_bytes: int | None = None,
    max_gpu_bytes: Mapping[int, int] = MappingProxyType({}),
) -> int:
    """Count the pages that fit beside the weights on every device of `layers`, at most `max_pages`.

    `working_bytes` of a GPU stay free there for activations, logits and graphs; `max_bytes` limits what the pages
    take of each device, `max_gpu_bytes` (by CUDA index) what they, the weights and the working memory take of a GPU.
    PlacementError when there is no room for a single page.
    """
    room = max_pages
    for device in dict.fromkeys(layer.device for layer in layers):
        page_bytes = sum(layer.page_bytes(page_size) for layer in layers if layer.device == device)
        free = _free_bytes(device)
        if device.type == "cuda":
            usable = int((free - working_bytes(device)) * LOADED_GPU_SHARE)
            if device.index in max_gpu_bytes:  # a budget has left others their share already
                left = max(max_gpu_bytes[device.index] - torch.cuda.memory_allocated(device), 0)
                usable, free = min(usable, left - working_bytes(device)), min(free, left)
        else:
            usable = int(free * CPU_KV_SHARE)
        if max_bytes is not None:
            usable = min(usable, max_bytes)
        if usable < page_bytes:
            raise PlacementError(
                f"no room for a KV cache on {device}: of {free // _MIB} MiB free {max(usable, 0) / _MIB:.1f} MiB may "
                f"be used, and {page_size} tokens need {page_bytes / _MIB:.1f} MiB; free memory there, raise "
                "--max_gpu_memory, lower --num_thread or add a GPU",
                free_bytes=free,
                usable_bytes=usable,
                page_bytes=page_bytes,
            )
        room = min(room, usable // page_bytes)
    return room


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        # What PyTorch has set aside but does not use is free for us as well.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return available_bytes()
