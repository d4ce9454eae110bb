"""Attends in a step whose layers all lie on the CPU.

What `attention.paged_attention` works out for each layer (which slots a row reads, which of them it
sees) is worked out once a step here: on a CPU with a small model that is most of what attention costs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from evaluation.toolbench.inference.engine.attention.reference import read_slots, write_slots
from evaluation.toolbench.inference.engine.kernels.float8 import Scales
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import Ints, StepArrays, StepBuffers
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache


@dataclass(frozen=True, slots=True)
class _Rows:
    """Holds rows with the same number of new tokens, which go through one call."""

    first: int  # of their tokens in the step
    num_rows: int
    num_new: int  # tokens of each
    slots: torch.Tensor  # (num_rows * longest context,) int64: what they read, row by row
    mask: torch.Tensor | None  # (num_rows, 1, num_new, longest context) bool; None: everything is seen


class HostStep:
    """Serves the model as `paging`; the step has no padding (`exact_shape`)."""

    def __init__(self, layout: StepBuffers, buffer: torch.Tensor, cache: KvCache) -> None:
        arrays = self._arrays = layout.views(buffer.numpy())
        self.wanted: torch.Tensor | None = None
        self._cache = cache
        self._attends = True
        self._of_wanted: list[_Rows] = []
        self._written: torch.Tensor | None = torch.from_numpy(arrays.kv_slots.astype(np.int64))
        num_decode, size = layout.shape.decode_rows, cache.page_size
        self._groups = [_rows(arrays, slice(0, num_decode), 0, 1, size)] if num_decode else []
        starts = arrays.starts.tolist()
        for index in range(layout.shape.prefill_rows):
            row = slice(num_decode + index, num_decode + index + 1)
            num_new = starts[index + 1] - starts[index]
            self._groups.append(_rows(arrays, row, num_decode + starts[index], num_new, size))

    def want(self, arrays: StepArrays[torch.Tensor], num_drawn: int) -> None:
        """Want the `num_drawn` tokens alone that are drawn from."""
        self.wanted = arrays.logit_tokens[:num_drawn].long()
        rows = arrays.draw_rows[:num_drawn].numpy()
        self._of_wanted = [_rows(self._arrays, rows, 0, 1, self._cache.page_size)]

    def storing(self) -> HostStep:
        step = copy.copy(self)
        step._attends = False
        return step

    def of_wanted(self) -> HostStep:
        step = copy.copy(self)
        step._written = None  # keys and values are stored already
        step._groups = self._of_wanted
        return step

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Store the new keys and values of `layer` and attend."""
        keys, values, scales = self._cache.keys(layer), self._cache.values(layer), self._cache.scales(layer)
        if self._written is not None:
            write_slots(k, v, keys, values, self._written, scales)
        if not self._attends:
            return q
        parts = [_attend(q, keys, values, scales or (None, None), rows, scale) for rows in self._groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows(arrays: StepArrays[Ints], rows: slice | Ints, first: int, num_new: int, page_size: int) -> _Rows:
    contexts, tables = arrays.contexts[rows, None], arrays.tables[rows]
    positions = np.arange(contexts.max())
    slots = tables[:, positions // page_size].astype(np.int64) * page_size + positions % page_size
    mask = None
    if num_new > 1 or contexts.min() < len(positions):
        # Past its own context a row reads its first token instead, whose weight is 0.
        slots = np.where(positions < contexts, slots, slots[:, :1])
        last_seen = contexts - num_new + np.arange(num_new)  # (num_rows, num_new)
        mask = torch.from_numpy(positions <= last_seen[:, :, None]).unsqueeze(1)
    return _Rows(first, len(contexts), num_new, torch.from_numpy(slots.reshape(-1)), mask)


def _attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scales: Scales | tuple[None, None],
    rows: _Rows,
    scale: float,
) -> torch.Tensor:
    """Return (num_rows * num_new, Hq, D) for these rows of `q` (T, Hq, D); the rest is as `KvCache` has it."""
    num_heads, head_dim = q.shape[1:]
    num_kv_heads = keys.shape[2]
    group = num_heads // num_kv_heads
    q = q[rows.first : rows.first + rows.num_rows * rows.num_new]
    k, v = (
        read_slots(cache, of_cache, rows.slots, q.dtype).view(rows.num_rows, -1, num_kv_heads, head_dim).transpose(1, 2)
        for cache, of_cache in zip((keys, values), scales, strict=True)
    )
    # The query heads of a group are further queries of their one KV head, so nothing is repeated for them.
    if rows.num_new == 1:
        queries = q.reshape(rows.num_rows, num_kv_heads, group, head_dim)
        return scaled_dot_product_attention(queries, k, v, attn_mask=rows.mask, scale=scale).flatten(1, 2)
    q = q.unflatten(0, (rows.num_rows, rows.num_new)).unflatten(2, (num_kv_heads, group))
    queries = q.permute(0, 2, 3, 1, 4).flatten(2, 3)
    mask = None if rows.mask is None else rows.mask.repeat(1, 1, group, 1)
    out = scaled_dot_product_attention(queries, k, v, attn_mask=mask, scale=scale)
    return out.unflatten(2, (group, rows.num_new)).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)
