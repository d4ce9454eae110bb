"""Joins a transformers model and the pages: an attention function under a name of its own.

`model(..., paging=step)` hands `step` through transformers' layers to `_attend`, which is registered
with the public `AttentionInterface`. Model code stays as it is. No mask function is registered under
that name: transformers then makes no mask, and which token sees which follows from the pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, PreTrainedModel

from evaluation.toolbench.inference.engine.checks import context_of
from evaluation.toolbench.inference.engine.device import embedding_device
from evaluation.toolbench.inference.engine.kernels.float8 import vector_bytes
from evaluation.toolbench.inference.errors import DataError, EngineError

ATTENTION_NAME = "toolgen_paged"
_PLAIN_ROPES = ("default", "linear", "llama3", "yarn")  # the others depend on the longest sequence of the batch
_UNKNOWN_FEATURES = ("sliding_window", "softcap", "s_aux", "position_bias")


class CannotBePagedError(EngineError):
    """Says that the pages cannot serve a model's attention."""


class Paging(Protocol):
    """Gives the attention of each layer what a step has for it.

    `wanted` (R,) int64 are the tokens of which the last layer's output is wanted, where a step needs no others; None:
    all. See `execution.last_layer`.
    """

    wanted: torch.Tensor | None

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Store `k` and `v`, (T, Hkv, D) each, and attend to all that is stored: (T, Hq, D) like `q`."""
        ...

    def storing(self) -> Paging:
        """Return what stores keys and values of all tokens, and gives anything of the right shape for attention."""
        ...

    def of_wanted(self) -> Paging:
        """Return what stores nothing, and attends for the wanted tokens alone."""
        ...


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Says what the cache of one attention layer has to hold, and where."""

    device: torch.device
    dtype: torch.dtype
    num_kv_heads: int
    head_dim: int
    is_float8: bool = False  # stored in 8 bits, whatever the dtype: see `kernels.float8`

    def page_bytes(self, page_size: int) -> int:
        """Return bytes of the keys and values of one page."""
        num_bytes = vector_bytes(self.head_dim) if self.is_float8 else self.head_dim * self.dtype.itemsize
        return 2 * page_size * self.num_kv_heads * num_bytes


def attach(model: PreTrainedModel) -> tuple[str, list[LayerShape]]:
    """Switch `model` to paged attention; returns the name of what it had before, and its layers.

    The layers are found by running one token through the model. EngineError for a model whose
    attention is not what the pages can serve, DataError for one whose logits are not numbers.
    """
    _check_config(model)
    before = model.config._attn_implementation
    probe = Probe()
    try:
        model.set_attn_implementation(ATTENTION_NAME)
        token = torch.zeros(1, 1, dtype=torch.int64, device=embedding_device(model))
        with torch.inference_mode():
            logits = model(token, position_ids=token, use_cache=False, paging=probe).logits
            own = model.get_output_embeddings()(last_hidden(model, token, token, probe))
        if logits.isnan().any():
            raise DataError(
                f"the logits of {type(model).__name__} are not numbers: its weights hold NaN or infinity, or overflow "
                f"in {str(logits.dtype).removeprefix('torch.')}. Download them again, or pass another --dtype"
            )
        if not torch.allclose(own.to(logits.device, logits.dtype), logits):
            raise _cannot_be_paged(model, "its logits are not those of its output embedding alone")
        num_layers = int(model.config.get_text_config().num_hidden_layers)
        if sorted(probe.layers) != list(range(num_layers)):
            raise _cannot_be_paged(model, f"{len(probe.layers)} of its {num_layers} layers ask for attention by name")
    except Exception as error:
        detach(model, before)
        if isinstance(error, (CannotBePagedError, DataError, torch.OutOfMemoryError)):
            raise
        raise _cannot_be_paged(model, str(error)) from error
    return before, [probe.layers[index] for index in range(num_layers)]


def detach(model: PreTrainedModel, before: str) -> None:
    """Give `model` back the attention that it had before `attach`."""
    model.set_attn_implementation(before)


def last_hidden(
    model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor, paging: Paging
) -> torch.Tensor:  # (1, T, hidden size)
    """Return what the decoder makes of `ids` at `positions`, (1, T) each; the output embedding comes after it."""
    hidden: torch.Tensor = model.base_model(
        ids, position_ids=positions, use_cache=False, paging=paging
    ).last_hidden_state
    return hidden


class Probe:
    """Stands for the pages where only the rest of the model matters; notes the shape of each layer, and keeps the last
    queries, keys and values.
    """

    def __init__(self, wanted: torch.Tensor | None = None) -> None:
        self.layers: dict[int, LayerShape] = {}
        self.wanted = wanted
        self.given: tuple[torch.Tensor, ...] = ()
        self.for_wanted: Probe | None = None

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        if k.shape != v.shape or k.shape[2] != q.shape[2]:
            raise EngineError(f"keys {tuple(k.shape)} and values {tuple(v.shape)} of layer {layer} differ in shape")
        self.given = (q, k, v)
        self.layers[layer] = LayerShape(k.device, k.dtype, k.shape[1], k.shape[2])
        return torch.zeros_like(q)

    def storing(self) -> Paging:
        return self

    def of_wanted(self) -> Paging:
        self.for_wanted = Probe()
        return self.for_wanted


@torch.compiler.disable  # its kernels are compiled already, and it differs from layer to layer
def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, Hq, T, D)
    key: torch.Tensor,  # (1, Hkv, T, D)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    paging: Paging,
    scaling: float | None = None,
    **features: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers asks for it in each layer; the first result is (1, T, Hq, D)."""
    used = [name for name in _UNKNOWN_FEATURES if features.get(name) is not None]
    if used:
        raise EngineError(f"its attention uses {', '.join(used)}")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    scale = q.shape[2] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return paging.attend(layer, q, k, v, scale).unsqueeze(0), None


AttentionInterface.register(ATTENTION_NAME, _attend)


def _check_config(model: PreTrainedModel) -> None:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    if kinds:
        raise _cannot_be_paged(model, f"it has layers of {', '.join(sorted(kinds))}")
    ropes = getattr(config, "rope_parameters", None) or {}
    kind = ropes.get("rope_type", "default")
    if kind not in _PLAIN_ROPES:
        raise _cannot_be_paged(model, f"its rope_type {kind!r} depends on what else is in the batch")
    context_of(model)


def _cannot_be_paged(model: PreTrainedModel, why: str) -> CannotBePagedError:
    return CannotBePagedError(f"{type(model).__name__} cannot be served from pages ({why}): use --engine generate")
