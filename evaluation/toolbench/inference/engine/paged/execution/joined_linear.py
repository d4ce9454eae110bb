"""Joins linear layers that are given the same tensor to one matrix product.

A decoder multiplies one tensor by its query, key and value matrices, and another by the two of its feed-forward
layer. A GPU does them together in less time than one after another: small products do not fill it. The
model's code is left as it is; only the layers that it calls hand out parts of one result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from evaluation.toolbench.inference.engine.paged.execution.stages import Stage, try_out
from evaluation.toolbench.inference.engine.products.few_rows import product
from evaluation.toolbench.inference.engine.quantized_linear import QuantizedLinear

_Linear = nn.Linear | QuantizedLinear


class JoinedLinear(nn.Module):
    """Multiplies an input (..., K) by several weights (N_i, K) at once: results (..., N_i).

    `weight` (sum of N_i, K), `bias` and, of weights in 8 bits, `scale` hold those of `layers`, which from here on are
    views of them: the layers go on working and no memory is taken twice.
    """

    weight: torch.Tensor
    scale: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, layers: Sequence[_Linear]) -> None:
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        self.register_buffer("weight", _join([layer.weight for layer in layers]))
        scales = [layer.scale for layer in layers if isinstance(layer, QuantizedLinear)]
        self.register_buffer("scale", _join(scales) if scales else None)
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.register_buffer("bias", _join(biases) if biases else None)
        self.few_rows = 0  # up to which it multiplies by the kernel for them
        self._results: tuple[torch.Tensor, ...] = ()

    def parts(self) -> list[LinearPart]:
        """Return what takes the place of each layer."""
        return [LinearPart(self, index) for index in range(len(self.sizes))]

    def result(self, index: int, inputs: torch.Tensor) -> torch.Tensor:
        """Return the result of layer `index`; all are computed for the first one, and forgotten after the last."""
        if index == 0:
            joined = product(inputs, self.weight, self.scale, self.bias, self.few_rows)
            self._results = joined.split(self.sizes, dim=-1)
        result = self._results[index]
        if index == len(self.sizes) - 1:
            self._results = ()
        return result


class LinearPart(nn.Module):
    """Stands for one of the joined layers."""

    def __init__(self, joined: JoinedLinear, index: int) -> None:
        super().__init__()
        self.joined = joined
        self.index = index

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.joined.result(self.index, inputs)


def join_linears(stages: Sequence[Stage]) -> int:
    """Join what can be joined in the stages, which must have modules of their own; returns how many products are saved.

    Which layers are given the same tensor is seen by running two tokens through the stages.
    """
    saved = 0
    for calls in _calls(stages):
        groups = list(_groups(calls))
        _gather(groups, calls)
        for group in groups:
            joined = JoinedLinear([call.layer for call in group])
            for call, part in zip(group, joined.parts(), strict=True):
                call.parent._modules[call.name] = part
            saved += len(group) - 1
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # where the weights were before: at no time is there a second copy of many
    return saved


@dataclass(frozen=True, slots=True)
class _Call:
    """Notes a linear layer, where its parent has it, and what it was given."""

    parent: nn.Module
    name: str
    layer: _Linear
    given: torch.Tensor


def _calls(stages: Sequence[Stage]) -> list[list[_Call]]:
    """Return the calls of linear layers, in their order, for each layer of the decoder."""
    calls: list[list[_Call]] = []
    with ExitStack() as stack:
        for stage in stages:
            for decoder_layer in stage.decoder.layers:
                calls.append([])
                for parent in decoder_layer.modules():
                    for name, layer in parent.named_children():
                        if type(layer) in (nn.Linear, QuantizedLinear):
                            stack.enter_context(_noting(calls[-1], parent, name, layer))
        try_out(stages)
    return calls


def _noting(calls: list[_Call], parent: nn.Module, name: str, layer: Any) -> Any:
    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls.append(_Call(parent, name, layer, inputs[0]))

    return layer.register_forward_pre_hook(note)


def _groups(calls: Sequence[_Call]) -> Iterator[list[_Call]]:
    """Return the runs of two or more calls, one right after another, of layers that can be joined."""
    often = [call.layer for call in calls]
    group: list[_Call] = []
    for before, call in pairwise([None, *calls, None]):
        fits = before is not None and call is not None and _can_join(before, call) and often.count(call.layer) == 1
        if not fits:
            if len(group) > 1:
                yield group
            group = []
        if call is not None and often.count(call.layer) == 1:
            group.append(call)


def _can_join(one: _Call, other: _Call) -> bool:
    here, there = one.layer.weight, other.layer.weight
    same_kind = here.device == there.device and here.dtype == there.dtype and here.device.type != "meta"
    return one.given is other.given and same_kind and (one.layer.bias is None) == (other.layer.bias is None)


@torch.no_grad()
def _gather(groups: Sequence[Sequence[_Call]], calls: Sequence[_Call]) -> None:
    """Lay the weights of each group in a row, in the memory that those of the whole layer have taken.

    A loader lays all weights close together. Were only those of a group moved, each layer would leave a hole too
    small for its own joined weights: 1.5 GiB of an 8B model, lost to the KV cache. So all are set aside at once.
    """
    together = [[call.layer.weight for call in group] for group in groups]
    if all(map(_lie_in_a_row, together)):
        return
    grouped = {id(weight) for weights in together for weight in weights}
    alone = {id(call.layer.weight): call.layer.weight for call in calls if id(call.layer.weight) not in grouped}
    weights = [*itertools.chain.from_iterable(together), *alone.values()]
    aside = [weight.detach().clone() for weight in weights]  # kept to the end, or what follows would go there
    for weight, copy in zip(weights, aside, strict=True):
        weight.data = copy
    together += [[weight] for weight in alone.values()]
    for row in sorted(together, key=lambda row: -sum(weight.nbytes for weight in row)):
        _join(row)


@torch.no_grad()
def _join(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join `tensors`, which become views of a new tensor; several that lie in a row already stay where they are."""
    first = tensors[0]
    size = (sum(map(len, tensors)), *first.shape[1:])
    if len(tensors) > 1 and _lie_in_a_row(tensors):
        return first.detach().as_strided(size, first.stride())
    joined = torch.cat([tensor.detach() for tensor in tensors])
    start = 0
    for tensor in tensors:
        tensor.data = joined[start : start + len(tensor)]
        start += len(tensor)
    return joined


def _lie_in_a_row(tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether each begins where the one before ends, as an engine before this one may have left them."""
    ends = [tensor.storage_offset() + tensor.numel() for tensor in tensors]
    return (
        all(tensor.is_contiguous() for tensor in tensors)
        and len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
        and all(end == tensor.storage_offset() for end, tensor in zip(ends, tensors[1:], strict=False))
    )
