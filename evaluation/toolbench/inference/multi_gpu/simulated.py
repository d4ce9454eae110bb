"""Makes GPUs that are not here, to plan for: "3xRTX4090", "8xA100-40GB", "2x24GiB,1x80GiB"."""

from __future__ import annotations

import re
from dataclasses import replace

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.cards import CARDS, card_named
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.units import MIB, gib, parse_size

_GROUP = re.compile(r"(?:(?P<count>\d+)\s*[x×*]\s*)?(?P<what>[^,]*[^\s,])", re.IGNORECASE)
_MOST_GPUS = 32
_EXAMPLES = "3xRTX4090, 3x24GiB or 2x24GiB,1x80GiB"


def simulated_gpus(text: str) -> list[Gpu]:
    """Returns GPUs with all their memory free, numbered in the order of `text`. ConfigError for what cannot be read."""
    gpus: list[Gpu] = []
    for group in text.split(","):
        match = _GROUP.fullmatch(group.strip())
        count = int(match["count"] or 1) if match else 0
        if match is None or not 0 < count <= _MOST_GPUS:
            raise ConfigError(f"--simulate {text!r}: write GPUs like {_EXAMPLES}, at most {_MOST_GPUS}")
        gpu = _gpu(match["what"])
        gpus += [
            replace(gpu, uuid=f"GPU-simulated-{index}", cuda_index=index)
            for index in range(len(gpus), len(gpus) + count)
        ]
    if len(gpus) > _MOST_GPUS:
        raise ConfigError(f"--simulate {text!r} is {len(gpus)} GPUs; at most {_MOST_GPUS} can be planned for")
    return gpus


def _gpu(what: str) -> Gpu:
    """Return a GPU by the name of its card, or by its memory."""
    card = card_named(what)
    if card is not None:
        size = card.memory_mib * MIB
        return Gpu("", card.name, size, size, compute_capability=card.compute_capability, bandwidth=card.bandwidth)
    try:
        size = parse_size(what)
    except ConfigError as error:
        known = ", ".join(card.name for card in CARDS)
        raise ConfigError(
            f"--simulate: {what!r} is neither an amount of memory, such as 24GiB, nor one of the cards {known}"
        ) from error
    return Gpu("", f"simulated {gib(size)}", size, size)
