"""Copies of pages, held against copies spelled out. Run as a script, with TRITON_INTERPRET=1 on a machine without a
GPU, it checks the Triton kernel: Triton decides when it is imported whether to interpret, so the test process itself
cannot. The repository's root must be on PYTHONPATH.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.engine.paged import page_copies
from evaluation.toolbench.inference.engine.paged.attach import LayerShape
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache

NUM_PAGES = 9
COPIES = [(0, 5), (8, 1), (0, 3), (2, 7)]  # one page goes to two
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """The layers of a device: (KV heads, head dim) each, whose keys and values take this many bytes a number."""

    heads: tuple[tuple[int, int], ...]
    dtype: torch.dtype = torch.bfloat16
    page_size: int = 16
    is_float8: bool = False

    @property
    def name(self) -> str:
        number = "8 bits" if self.is_float8 else str(self.dtype).removeprefix("torch.")
        return f"{', '.join(f'{heads}x{dim}' for heads, dim in self.heads)} in {number}, pages of {self.page_size}"


_FORMATS = [(torch.bfloat16, False), (torch.float32, False), (torch.bfloat16, True)]
CASES = [
    *(
        Case(((2, 64), (8, 128), (1, 24)), dtype, size, is_float8)  # the second takes several blocks
        for dtype, is_float8 in _FORMATS
        for size in (16, 64)
    ),
    Case(((3, 17), (1, 5)), page_size=16),  # odd, and whole words of 16 bytes even so
    # Words of 8, 4, 2 bytes and of one, by the layer where they are smallest.
    Case(((2, 64), (1, 3)), page_size=4),
    Case(((2, 64), (1, 3)), page_size=2),
    Case(((2, 64), (1, 3)), page_size=1),
    Case(((2, 64), (1, 3)), page_size=1, is_float8=True),
]


def check_copies(case: Case, device: torch.device) -> None:
    """Assert that pages go where they should, their scales too, and that no other page changes."""
    layers = [LayerShape(device, case.dtype, *heads, case.is_float8) for heads in case.heads]
    cache = KvCache(layers, NUM_PAGES, case.page_size)
    held = [tensor for index in range(len(layers)) for tensor in _held_of(cache, index)]
    generator = torch.Generator().manual_seed(0)
    expected = []
    for tensor in held:
        tensor.copy_(torch.randint(0, 250, tensor.shape, generator=generator))
        after = tensor.clone()
        for source, target in COPIES:
            after[target] = tensor[source]
        expected.append(after)
    cache.copy_pages([])
    cache.copy_pages(COPIES)
    for found, after in zip(held, expected, strict=True):
        assert torch.equal(found, after)


def _held_of(cache: KvCache, layer: int) -> list[torch.Tensor]:
    return [cache.keys(layer), cache.values(layer), *(cache.scales(layer) or ())]


def check_copies_far_away(device: torch.device) -> None:
    """Assert the same where pages lie gigabytes apart; of main memory that takes what is written."""
    layer = LayerShape(device, torch.bfloat16, num_kv_heads=8, head_dim=128)
    num_pages = 5 * GIB // layer.page_bytes(64)
    cache = KvCache([layer], num_pages, 64)
    for number, pages in enumerate((cache.keys(0), cache.values(0))):
        pages[0], pages[-1] = 1 + number, 3 + number
    cache.copy_pages([(0, num_pages - 2), (num_pages - 1, 1)])
    for number, pages in enumerate((cache.keys(0), cache.values(0))):
        assert (pages[-2] == 1 + number).all()
        assert (pages[1] == 3 + number).all()
        assert not pages[-3].any()


if __name__ == "__main__":
    page_copies.has_kernel = lambda device: True
    for each in CASES:
        check_copies(each, torch.device("cpu"))
    check_copies_far_away(torch.device("cpu"))
