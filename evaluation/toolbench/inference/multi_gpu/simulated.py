"""GPUs that are not here, to plan for: "3x24GiB", "2x24GiB,1x80GiB"."""

from __future__ import annotations

import re

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.units import gib, parse_size

_GROUP = re.compile(r"(?:(?P<count>\d+)\s*[x×*]\s*)?(?P<size>\d.*)", re.IGNORECASE)
_MOST_GPUS = 32


def simulated_gpus(text: str) -> list[Gpu]:
    """GPUs with all their memory free, numbered in the order of `text`. ConfigError for what it is not."""
    gpus: list[Gpu] = []
    for group in text.split(","):
        match = _GROUP.fullmatch(group.strip())
        count = int(match["count"] or 1) if match else 0
        if match is None or not 0 < count <= _MOST_GPUS:
            raise ConfigError(f"--simulate {text!r}: write GPUs like 3x24GiB or 2x24GiB,1x80GiB, at most {_MOST_GPUS}")
        size = parse_size(match["size"])
        for _ in range(count):
            gpus.append(Gpu(f"GPU-simulated-{len(gpus)}", f"simulated {gib(size)}", size, size, cuda_index=len(gpus)))
    if len(gpus) > _MOST_GPUS:
        raise ConfigError(f"--simulate {text!r} is {len(gpus)} GPUs; at most {_MOST_GPUS} can be planned for")
    return gpus
