"""Copies pages in all tensors that one device holds, all pages at once.

A search makes many copies in a step, and launches for each page or each tensor would take longer than the copies do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch

from evaluation.toolbench.inference.engine.device import to_device
from evaluation.toolbench.inference.engine.kernels.availability import triton_works
from evaluation.toolbench.inference.engine.kernels.cache import launch

if TYPE_CHECKING:
    from evaluation.toolbench.inference.engine.attention.triton_copy import PageTable

_WORDS = (torch.complex128, torch.int64, torch.int32)


class PageCopier:
    """Copies pages of the tensors of a device: in one launch where Triton works, else in two for each tensor."""

    def __init__(self, held: Sequence[torch.Tensor]) -> None:
        """Take tensors of one device, (2, num_pages, ...) each and contiguous: keys and values, or their scales."""
        self._held = held
        self._device = held[0].device
        self._table: PageTable | None = None
        if has_kernel(self._device):
            from evaluation.toolbench.inference.engine.attention.triton_copy import page_table

            self._table = page_table([half for both in held for half in both])

    def copy(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy pages (from, to) in all tensors, in the order of the current stream; no page is in both places."""
        pages = to_device(list(chain.from_iterable(copies)), torch.int64, self._device).view(-1, 2)
        table = self._table
        if table is not None:
            from evaluation.toolbench.inference.engine.attention.triton_copy import copy_pages

            launch(lambda: copy_pages(table, pages))
            return
        sources, targets = pages.unbind(1)
        for held in self._held:
            words = _in_words(held)
            words[:, targets] = words[:, sources]


def has_kernel(device: torch.device) -> bool:
    """Return whether one kernel copies pages on `device`."""
    return device.type == "cuda" and triton_works(device)


def _in_words(held: torch.Tensor) -> torch.Tensor:
    """Return `held` (2, num_pages, ...) as (2, num_pages, words of 16 bytes, or of fewer where that does not fit).

    PyTorch copies an element at a time: two bytes each took four times as long.
    """
    pages = held.flatten(2)
    num_bytes = pages.shape[2] * pages.itemsize
    word = next((word for word in _WORDS if num_bytes % word.itemsize == 0 and word.itemsize > pages.itemsize), None)
    return pages if word is None else pages.view(word)
