"""Decides in which dtype a model computes, and knows which formats the cards have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_FIRST_WITH_BFLOAT16 = (8, 0)  # compute capability
_FIRST_WITH_FP8 = (8, 9)


def resolve_dtype(dtype: str, gpus: Sequence[Gpu] | None) -> torch.dtype:
    """Return the torch dtype that `--dtype` names, for a run on `gpus` (None: on the CPU). ConfigError for others.

    "auto" is bfloat16 where all cards have it and float16 where one does not, so that replicas on different cards
    compute alike. On the CPU it is float32: there bfloat16 is fast on few models only, and answers would depend on
    which one it is.
    """
    if dtype == "auto":
        if gpus is None:
            return torch.float32
        return torch.bfloat16 if _all_have(_FIRST_WITH_BFLOAT16, gpus) else torch.float16
    if dtype not in _DTYPES:
        raise ConfigError(f"dtype={dtype!r} is not one of auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def keep_fp8(gpus: Iterable[Gpu]) -> bool:
    """Return whether FP8 weights stay FP8 on these cards; elsewhere transformers unpacks them to bfloat16."""
    cards = list(gpus)
    return bool(cards) and _all_have(_FIRST_WITH_FP8, cards)


def require_fp8(dtype: torch.dtype, gpus: Iterable[Gpu]) -> None:
    """Raise ConfigError where `--weights fp8` does not work: on a card without float8, or in another dtype.

    No cards: on the CPU, where the weights are unpacked for every product, anything does.
    """
    cards = list(gpus)
    old = [gpu for gpu in cards if not keep_fp8([gpu])]
    if old:
        capability = ".".join(map(str, old[0].compute_capability or "?"))
        raise ConfigError(
            f"--weights fp8: {old[0].name} (compute capability {capability}) has no float8, which begins with 8.9 "
            "(RTX 4090, L4, H100): use --weights int8",
            compute_capability=old[0].compute_capability,
        )
    if cards and dtype != torch.bfloat16:
        said = str(dtype).removeprefix("torch.")
        raise ConfigError(
            f"--weights fp8 with --dtype {said}: products of float8 come out in bfloat16; leave --dtype out, or use "
            "--weights int8"
        )


def _all_have(capability: tuple[int, int], gpus: Iterable[Gpu]) -> bool:
    """Return whether all cards are of this capability or newer; one that does not tell its own counts as new."""
    return all((gpu.compute_capability or capability) >= capability for gpu in gpus)
