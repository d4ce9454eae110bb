"""Holds one step's inputs on the devices, and computes the attention of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.engine.attention import paged_attention, write_kv
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepBuffers
from evaluation.toolbench.inference.engine.paged.kv_cache import KvCache


@dataclass(frozen=True, slots=True)
class _Part:
    """Holds rows that one attention call serves; see `attention.paged_attention`."""

    tables: torch.Tensor
    contexts: torch.Tensor
    starts: torch.Tensor
    max_q: int


class PagedStep:
    """Views the input buffers, one for each device with layers; given to the model as `paging`.

    Launches depend on the layout alone, so a step can be captured in a CUDA graph and replayed after
    its buffer has been written anew. `is_fresh` promises that no prefill row has anything stored yet
    and none is padding. `side_stream` takes the attention of prompts on its device, beside that of decodes:
    few programs that take long, and many short ones that wait for memory.
    """

    def __init__(
        self,
        layout: StepBuffers,
        buffers: Mapping[torch.device, torch.Tensor],
        cache: KvCache,
        *,
        is_fresh: bool = False,
        side_stream: torch.cuda.Stream | None = None,
    ) -> None:
        self._cache = cache
        self._side_stream = side_stream
        self._num_decode = layout.shape.decode_rows
        self._is_fresh = is_fresh
        self._slots: dict[torch.device, torch.Tensor] = {}
        self._decode: dict[torch.device, _Part] = {}
        self._prefill: dict[torch.device, _Part] = {}
        shape = layout.shape
        for device, buffer in buffers.items():
            arrays = layout.views(buffer)
            rows = shape.decode_rows
            self._slots[device] = arrays.kv_slots.long()
            if rows:
                starts = torch.arange(rows + 1, dtype=torch.int32, device=device)
                self._decode[device] = _Part(arrays.tables[:rows], arrays.contexts[:rows], starts, max_q=1)
            if shape.prefill_tokens:
                tables, contexts = arrays.tables[rows:], arrays.contexts[rows:]
                self._prefill[device] = _Part(tables, contexts, arrays.starts, max_q=shape.prefill_tokens)

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Store the new keys and values of `layer` and attend: decode rows by one kernel, prefill rows by another."""
        device, split = q.device, self._num_decode
        keys, values, scales = self._cache.keys(layer), self._cache.values(layer), self._cache.scales(layer)
        write_kv(k, v, keys, values, self._slots[device], kv_scales=scales)
        out = torch.empty_like(q, memory_format=torch.contiguous_format)

        def serve(part: _Part, rows: slice, new_kv: tuple[torch.Tensor, torch.Tensor] | None = None) -> None:
            tables, contexts, starts = part.tables, part.contexts, part.starts
            arguments = q[rows], keys, values, tables, contexts, starts, part.max_q, scale, out[rows]
            paged_attention(*arguments, kv_scales=scales, new_kv=new_kv)

        decode, prefill = self._decode.get(device), self._prefill.get(device)
        side = self._side_stream if decode and prefill else None
        if side is not None and side.device != device:
            side = None
        if side is not None:
            side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):  # None: where we are
            if prefill is not None:
                serve(prefill, slice(split, None), (k[split:], v[split:]) if self._is_fresh else None)
        if decode is not None:
            serve(decode, slice(split))
        if side is not None:
            torch.cuda.current_stream(device).wait_stream(side)
        return out
