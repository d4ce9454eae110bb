"""Holds one step's inputs on the devices, and computes the attention of its layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.engine.attention import paged_attention, write_kv
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepArrays, StepBuffers
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
        self.wanted: torch.Tensor | None = None
        self._cache = cache
        self._side_stream = side_stream
        self._attends = True
        self._of_wanted: dict[torch.device, _Part] = {}
        self._num_decode: int | None = layout.shape.decode_rows  # None: all that there are
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

    def want(self, arrays: StepArrays[torch.Tensor], num_drawn: int) -> None:
        """Want the tokens alone that are drawn from, of which there are `num_drawn` or fewer; `arrays` are those of the
        step on the one device that has all of its layers.
        """
        self.wanted = arrays.logit_tokens[:num_drawn].long()
        rows = arrays.draw_rows[:num_drawn].long()
        contexts = arrays.contexts[rows] * (arrays.draw_slots[:num_drawn] > 0)  # padding sees nothing
        starts = torch.arange(num_drawn + 1, dtype=torch.int32, device=rows.device)
        self._of_wanted[rows.device] = _Part(arrays.tables[rows], contexts, starts, max_q=1)

    def storing(self) -> PagedStep:
        step = copy.copy(self)
        step._attends = False
        return step

    def of_wanted(self) -> PagedStep:
        step = copy.copy(self)
        step._slots = {}  # keys and values are stored already
        step._decode, step._prefill = self._of_wanted, {}
        step._num_decode = None
        return step

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Store the new keys and values of `layer` and attend: decode rows by one kernel, prefill rows by another."""
        device, split = q.device, self._num_decode
        keys, values, scales = self._cache.keys(layer), self._cache.values(layer), self._cache.scales(layer)
        if device in self._slots:
            write_kv(k, v, keys, values, self._slots[device], kv_scales=scales)
        if not self._attends:
            return q
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
