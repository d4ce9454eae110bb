"""Has a model's last layer compute, in a step that reads prompts, only the tokens that are drawn from.

Of the other tokens nothing but the last layer's keys and values is ever used again. An agent's steps have five prompt
tokens, and those of retrieval twenty rows, for each row that draws: without this one layer of the model is for nothing.
What else is in a step decides whether it is worth it, and so how a token is rounded. Small models, whose files in
float32 are equal to the byte however their queries are batched, compute all tokens.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from evaluation.toolbench.inference.engine.paged.attach import Paging, Probe
from evaluation.toolbench.inference.engine.paged.execution.compilation import TYPICAL_PAIRS
from evaluation.toolbench.inference.engine.paged.execution.stages import Stage, try_out
from evaluation.toolbench.inference.errors import first_line

logger = logging.getLogger(__name__)

_PARTS = ("input_layernorm", "self_attn")
_TOLERANCE = 0.02  # relative: the same products of other sizes, in 16 bits
_FEW_PAIRS = 8  # of tokens in a step that is tried, where no kernels are laid out for its size
_TRIED_STEP = 7  # tokens of a step that is tried for each that is wanted: odd, since pairs are alike


class LastLayer(nn.Module):
    """Stands for the decoder layer `layer`: (1, T, hidden size) to the same, or to (1, R, hidden size) where `paging`
    wants R tokens.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.keys_and_values = _KeysAndValues(layer)

    def forward(self, hidden_states: torch.Tensor, *, paging: Paging, **given: Any) -> torch.Tensor:
        wanted = paging.wanted
        if wanted is None:
            whole: torch.Tensor = self.layer(hidden_states, paging=paging, **given)
            return whole
        self.keys_and_values(hidden_states, paging=paging.storing(), **given)
        given = {name: _of_tokens(value, wanted) for name, value in given.items()}
        of_wanted: torch.Tensor = self.layer(hidden_states[:, wanted], paging=paging.of_wanted(), **given)
        return of_wanted

    def __getattr__(self, name: str) -> Any:
        """Return what the model asks its layers for, such as their kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class _KeysAndValues(nn.Module):
    """Computes a layer's keys and values, and its queries too, which come with them in a joined product."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.norm = layer.input_layernorm
        self.attention = copy.copy(layer.self_attn)
        self.attention._modules = {**layer.self_attn._modules, "o_proj": nn.Identity()}

    def forward(self, hidden_states: torch.Tensor, **given: Any) -> None:
        self.attention(hidden_states=self.norm(hidden_states), **given)


def use_thin_last_layer(stages: Sequence[Stage], *, compile_it: bool) -> list[Stage]:
    """Return the stages with such a last layer, whose modules must be their own; as they are where it does not fit.

    It fits where the layer's queries, keys, values and results come out the same, as tried here.
    """
    last = stages[-1]
    layers: Any = last.decoder.layers
    layer = layers[-1]
    if not all(hasattr(layer, name) for name in _PARTS) or not hasattr(layer.self_attn, "o_proj"):
        return list(stages)
    thin = LastLayer(layer)
    if compile_it:
        thin.keys_and_values.compile(dynamic=True)
    try:
        num_pairs = TYPICAL_PAIRS if compile_it else _FEW_PAIRS
        wanted = torch.arange(0, 2 * num_pairs, _TRIED_STEP, device=last.device)
        before, now = Probe(), Probe(wanted)
        hidden = try_out(stages, num_pairs, before)
        layers[-1] = thin
        found = try_out(stages, num_pairs, now)
        assert now.for_wanted is not None  # a layer that attends has asked for it
        pairs = [
            (found, hidden[wanted]),
            *zip(now.given, before.given, strict=True),
            *((part, whole[wanted]) for part, whole in zip(now.for_wanted.given, before.given, strict=True)),
        ]
        if all(_is_same(*pair) for pair in pairs):
            return [*stages[:-1], replace(last, is_thin=True)]
        logger.info("the last layer computes all tokens of a step: for some alone it gives something else")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        name = type(error).__name__
        logger.info("the last layer computes all tokens of a step: %s: %s", name, first_line(error))
    layers[-1] = layer
    return list(stages)


def _of_tokens(value: Any, wanted: torch.Tensor) -> Any:
    """Return the wanted tokens of what a layer is given for each token: (1, T, ...), or several such tensors."""
    if isinstance(value, torch.Tensor):
        return value[:, wanted]
    if isinstance(value, tuple):
        return tuple(_of_tokens(part, wanted) for part in value)
    return value


def _is_same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    difference = (found.float() - expected.float()).norm()
    return bool(difference <= _TOLERANCE * expected.float().norm())
