"""Holds what may be said about GPUs, and the default length of conversations. Light: the command line reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evaluation.toolbench.inference.errors import ConfigError

AUTO: Literal["auto"] = "auto"
AutoOr = int | Literal["auto"]

LONGEST_CONVERSATION = 8192  # tokens, prompt included, within the model's own limit


@dataclass(frozen=True, kw_only=True)
class GpuConfig:
    """Says where the model may go. ConfigError for invalid numbers."""

    num_gpus: int | None = None  # None: all that CUDA sees
    max_gpu_memory: str | Mapping[int, str] | None = None  # "20GiB", "80%", "20GiB,10GiB"; None: 85% of what is free
    cpu_offloading: bool = False  # layers that do not fit may lie in main memory
    num_replicas: AutoOr = 1

    def __post_init__(self) -> None:
        for name, number in (("num_gpus", self.num_gpus), ("num_replicas", self.num_replicas)):
            if number is not None and number != AUTO and int(number) < 1:
                raise ConfigError(f"--{name} must be at least 1, not {number}")
