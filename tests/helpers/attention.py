"""Paged batches with random pages, and attention spelled out in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from evaluation.toolbench.inference.engine.attention import write_kv
from evaluation.toolbench.inference.engine.kernels.float8 import Scales, dequantize, quantize


@dataclass
class PagedBatch:
    """The arguments of `paged_attention`, and the contiguous K and V of each sequence to check against."""

    q: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    block_tables: torch.Tensor
    context_lens: torch.Tensor
    cu_seqlens_q: torch.Tensor
    max_q: int
    scale: float
    kv_scales: Scales | None = None  # where the caches are 8-bit codes

    def arguments(self) -> tuple:
        return (
            self.q,
            self.k_cache,
            self.v_cache,
            self.block_tables,
            self.context_lens,
            self.cu_seqlens_q,
            self.max_q,
            self.scale,
        )


def paged_batch(
    contexts: list[int],
    new_tokens: list[int],
    *,
    page_size: int = 16,
    num_heads: int = 4,
    num_kv_heads: int = 2,
    head_dim: int = 16,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
    spare_pages: int = 2,
) -> PagedBatch:
    """A batch over shuffled pages. Slots that hold no token, and pages of nobody, are NaN.

    A context of 0 is a padding row: its block table points nowhere valid.
    """
    generator = torch.Generator().manual_seed(seed)
    pages_of = [-(-context // page_size) for context in contexts]
    num_pages = sum(pages_of) + 1
    free = torch.randperm(num_pages, generator=generator).tolist()
    block_tables = torch.full((len(contexts), max(*pages_of, 1) + spare_pages), 2**30, dtype=torch.int32)
    k_cache = torch.full((num_pages, page_size, num_kv_heads, head_dim), float("nan"), dtype=torch.float64)
    v_cache = k_cache.clone()
    for row, context in enumerate(contexts):
        pages = [free.pop() for _ in range(pages_of[row])]
        block_tables[row, : len(pages)] = torch.tensor(pages, dtype=torch.int32)
        for cache in (k_cache, v_cache):
            values = torch.randn(context, num_kv_heads, head_dim, generator=generator, dtype=torch.float64)
            for position in range(context):
                cache[pages[position // page_size], position % page_size] = values[position]
    q = torch.randn(sum(new_tokens), num_heads, head_dim, generator=generator, dtype=torch.float64)
    starts = torch.tensor([0, *new_tokens]).cumsum(0).to(torch.int32)
    return PagedBatch(
        q.to(device, dtype),
        k_cache.to(device, dtype),
        v_cache.to(device, dtype),
        block_tables.to(device),
        torch.tensor(contexts, dtype=torch.int32, device=device),
        starts.to(device),
        max(new_tokens),
        head_dim**-0.5,
    )


def in_float8(batch: PagedBatch) -> PagedBatch:
    """The same batch with keys and values in 8 bits; slots that hold no token have a scale of NaN."""
    (k, k_scales), (v, v_scales) = quantize(batch.k_cache), quantize(batch.v_cache)
    # A head's scales lie one after another, as in the engine's cache.
    kv_scales = tuple(scales.transpose(1, 2).contiguous().transpose(1, 2) for scales in (k_scales, v_scales))
    return replace(batch, k_cache=k, v_cache=v, kv_scales=kv_scales)


def exact_attention(batch: PagedBatch) -> torch.Tensor:
    """What `paged_attention` must return for `batch`, in float64 on the CPU, one query at a time."""
    k_cache, v_cache = batch.k_cache, batch.v_cache
    if batch.kv_scales is not None:
        k_cache, v_cache = dequantize(k_cache, batch.kv_scales[0]), dequantize(v_cache, batch.kv_scales[1])
    q, k_cache, v_cache = (tensor.to("cpu", torch.float64) for tensor in (batch.q, k_cache, v_cache))
    page_size, num_kv_heads = k_cache.shape[1:3]
    group = q.shape[1] // num_kv_heads
    starts = batch.cu_seqlens_q.tolist()
    out = torch.zeros_like(q)
    for row, context in enumerate(batch.context_lens.tolist()):
        if context == 0:
            continue
        pages = batch.block_tables[row, : -(-context // page_size)].long().cpu()
        k = k_cache[pages].flatten(0, 1).repeat_interleave(group, dim=1)  # (pages * page_size, Hq, D)
        v = v_cache[pages].flatten(0, 1).repeat_interleave(group, dim=1)
        n = starts[row + 1] - starts[row]
        for i in range(n):
            seen = context - n + i + 1
            scores = torch.einsum("hd,khd->hk", q[starts[row] + i], k[:seen]) * batch.scale
            out[starts[row] + i] = torch.einsum("hk,khd->hd", scores.softmax(-1), v[:seen])
    return out


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """‖actual - expected‖ / ‖expected‖ in float64; NaN where anything is NaN."""
    return float((actual.cpu().double() - expected).norm() / expected.norm())


def check_write(device: str, implementation: str) -> None:
    """Assert that `write_kv` puts tokens where their slots say, and nothing elsewhere."""
    k = torch.randn(5, 3, 8, device=device)
    v = torch.randn(3, 5, 8, device=device).transpose(0, 1)  # strided, as a model hands it over
    k_cache, v_cache = (torch.full((4, 16, 3, 8), 7.0, device=device) for _ in range(2))
    slots = [63, -1, 0, 17, -1]
    write_kv(k, v, k_cache, v_cache, torch.tensor(slots, device=device), implementation=implementation)
    for new, cache in ((k, k_cache), (v, v_cache)):
        expected = torch.full((64, 3, 8), 7.0, device=device)
        for token, slot in enumerate(slots):
            if slot >= 0:
                expected[slot] = new[token]
        assert torch.equal(cache.flatten(0, 1), expected)


def check_float8_write(device: str, implementation: str, dtype: torch.dtype = torch.float32) -> None:
    """Assert that `write_kv` puts what `quantize` makes of tokens where their slots say, and nothing elsewhere."""
    generator = torch.Generator().manual_seed(0)
    k = torch.randn(5, 3, 24, generator=generator) * torch.tensor([1e-6, 1.0, 300.0, 2e4, 0.0]).view(5, 1, 1)
    k[1, 1] = float("nan")
    k[0, 2, :3] = torch.tensor([float("inf"), 1e-3, -1e9])
    k = k.to(device, dtype)
    v = torch.randn(3, 5, 24, generator=generator).to(device, dtype).transpose(0, 1)
    caches = [torch.full((4, 16, 3, 24), 7, dtype=torch.uint8, device=device) for _ in range(2)]
    scales = [torch.full((4, 3, 16), 7.0, device=device).transpose(1, 2) for _ in range(2)]
    slots = [63, 2, 0, 17, -1]
    write_kv(k, v, *caches, torch.tensor(slots, device=device), kv_scales=tuple(scales), implementation=implementation)
    for new, cache, scale in zip((k, v), caches, scales, strict=True):
        expected, expected_scales = torch.full((64, 3, 24), 7, dtype=torch.uint8), torch.full((64, 3), 7.0)
        codes, made = quantize(new.cpu())  # torch divides less exactly on a GPU than the kernel does
        for token, slot in enumerate(slots):
            if slot >= 0:
                expected[slot], expected_scales[slot] = codes[token], made[token]
        torch.testing.assert_close(scale.reshape(64, 3).cpu(), expected_scales, rtol=0, atol=0, equal_nan=True)
        codes = cache.flatten(0, 1).cpu()
        is_number = ~expected_scales.isnan()  # the codes of the others mean nothing
        assert torch.equal(codes[is_number], expected[is_number])
