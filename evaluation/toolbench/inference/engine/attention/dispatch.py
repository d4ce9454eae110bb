"""Does two things on a paged KV cache: store new keys and values, and attend to what is stored."""

from __future__ import annotations

from typing import Literal

import torch

from evaluation.toolbench.inference.engine.attention import reference, varlen
from evaluation.toolbench.inference.engine.kernels.availability import triton_works
from evaluation.toolbench.inference.engine.kernels.cache import launch
from evaluation.toolbench.inference.engine.kernels.float8 import Scales
from evaluation.toolbench.inference.errors import EngineError

Implementation = Literal["reference", "triton", "varlen"]


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    max_q: int,
    scale: float,
    out: torch.Tensor | None = None,
    *,
    kv_scales: Scales | None = None,
    new_kv: tuple[torch.Tensor, torch.Tensor] | None = None,
    implementation: Implementation | None = None,
) -> torch.Tensor:
    """Compute causal attention of T new tokens over the pages of B sequences: (T, Hq, D), the dtype of `q`.

    q             (T, Hq, D), the sequences' new tokens one after another; T is cu_seqlens_q[B], or more:
                  what is past that is padding, and its result means nothing
    k_cache       (num_pages, page_size, Hkv, D), with the new tokens already written; Hkv divides Hq
    v_cache       as `k_cache`
    block_tables  (B, max_pages) int32: page of a sequence's tokens [i * page_size, (i + 1) * page_size);
                  entries past its last page are not read
    context_lens  (B,) int32: tokens of each sequence, the new ones included
    cu_seqlens_q  (B + 1,) int32: where each sequence's new tokens start in `q`, the first at 0, and where
                  the last one's end
    max_q         at least the most new tokens of any sequence; 1 promises exactly one in every row (decode).
                  A mixed step is best served by two calls, one for its decodes and one for its prompts:
                  decode has a faster kernel for long contexts
    out           where to write the result; made here when None
    kv_scales     of K and V, (num_pages, page_size, Hkv) float32 each, where the caches hold 8-bit codes (uint8)
                  and not numbers: see `kernels.float8`. Then nothing is attended to but what can be read from the pages
    new_kv        the new tokens' own K and V, (T, Hkv, D) each, only where no sequence has a cached
                  prefix and no row is padding: then they are all there is to attend to
    implementation  overrides `choose`

    Query i of a sequence with n new tokens sits at position context_len - n + i and sees the tokens
    up to itself. A row with context_len 0 is padding: its tokens, if it has any, get zeros.

    On a GPU nothing is read back and every launch follows from shapes, so both a decode step and a
    step of fixed T and B can be captured in a CUDA graph. There the page size is a power of
    two (64 or more reads fastest), and the last dimension of every tensor is contiguous; the others may
    be strided. Kernels are compiled when first called for a dtype, page size and heads; batches add a
    handful of variants (few or many new tokens, the parts of a long context), none of them per batch.
    """
    chosen = implementation or choose(q, max_q, new_kv is not None and kv_scales is None)
    if chosen == "reference":
        return reference.paged_attention(
            q, k_cache, v_cache, block_tables, context_lens, cu_seqlens_q, max_q, scale, out, kv_scales
        )
    if chosen == "varlen":
        if new_kv is None:
            raise EngineError("flash attention without pages needs the keys and values of the new tokens (new_kv)")
        result = varlen.prefill(q, *new_kv, cu_seqlens_q, max_q, scale)
        return result if out is None else out.copy_(result)
    _check_page_size(k_cache)
    out = torch.empty_like(q, memory_format=torch.contiguous_format) if out is None else out
    if max_q == 1:
        from evaluation.toolbench.inference.engine.attention.triton_decode import paged_decode

        launch(lambda: paged_decode(q, k_cache, v_cache, block_tables, context_lens, scale, out, kv_scales))
    else:
        from evaluation.toolbench.inference.engine.attention.triton_prefill import paged_prefill

        launch(
            lambda: paged_prefill(q, k_cache, v_cache, block_tables, context_lens, cu_seqlens_q, scale, out, kv_scales)
        )
    return out


def write_kv(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slots: torch.Tensor,
    *,
    kv_scales: Scales | None = None,
    implementation: Implementation | None = None,
) -> None:
    """Store new keys and values, (T, Hkv, D) each, in their pages.

    slots      (T,) int64: page * page_size + offset of each token; negative ones are padding and skipped
    kv_scales  of K and V, (num_pages, page_size, Hkv) float32 each, to be written where the caches hold 8-bit codes
    """
    if (implementation or choose(k, 1, False)) == "reference":
        reference.write_kv(k, v, k_cache, v_cache, slots, kv_scales)
    else:
        from evaluation.toolbench.inference.engine.attention import triton_write

        launch(lambda: triton_write.write_kv(k, v, k_cache, v_cache, slots, kv_scales))


def choose(q: torch.Tensor, max_q: int, has_new_kv: bool) -> Implementation:
    """Return the implementation for queries like `q`.

    Triton on a GPU: it alone reads pages in place on every version of PyTorch that we support.
    PyTorch's flash attention for prompts without a cached prefix, where pages need not be read.
    Plain PyTorch on the CPU, and on a GPU where Triton does not work (correct, slow, no CUDA graphs).
    """
    if q.device.type != "cuda" or not triton_works(q.device):
        return "reference"
    if has_new_kv and max_q > 1 and varlen.supports(q):
        return "varlen"
    return "triton"


def _check_page_size(cache: torch.Tensor) -> None:
    page_size = cache.shape[1]
    if page_size & (page_size - 1):
        raise EngineError(f"the page size must be a power of two on a GPU, not {page_size}")
