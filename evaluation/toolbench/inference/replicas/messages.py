"""Defines what a replica and its parent say to each other. Plain values: they cross process borders.

The parent starts a process with `Setup`, sends `RunItem` and at the end `Stop`; everything else comes from the
replica. A replica that sends nothing more, because it is gone, has sent everything that it had finished.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec


@dataclass(frozen=True, slots=True)
class Setup:
    """Comes first, in a file of its own: it says which replica this is, and what it loads.

    `loader` is "module:function" (see `replica.Loader`); it is called with the replica and `job`.
    """

    spec: ReplicaSpec
    loader: str
    job: Any
    log_level: int = logging.WARNING


@dataclass(frozen=True, slots=True)
class RunItem:
    item_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Begin nothing more; end what runs between two steps, report it, and then end."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Says that the model is there."""

    num_conversations: int  # items that this replica takes at once
    sees_steps: bool = False  # whether `Beat.progress` counts within a generation
    device_map: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadFailed:
    problem: Problem


@dataclass(frozen=True, slots=True)
class Done:
    """Says that the item is over; `result` is what its function returned, None where it left a file instead."""

    item_id: str
    result: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Says that the item failed; with `ends_run` every other one would meet the same, such as a full disk."""

    item_id: str
    problem: Problem
    ends_run: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """Says that the item ended between two steps because the run is being stopped."""

    item_id: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Gives an item back that met what may pass, such as an API server that is away: it may be tried again."""

    item_id: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Beat:
    """Says four times a second how the replica is doing. `progress` grows as the model or an API does something."""

    progress: int = 0
    num_tokens: int = 0
    api_calls: int = 0
    api_errors: int = 0
    cache: CacheUse = field(default_factory=CacheUse)  # of those calls
    calls_in_flight: int = 0  # to APIs
    num_texts: int = 0  # generations without a constraint
    num_cut: int = 0  # of them, those that ended at the longest length
    num_conversations: int = 0  # items at once from now on; 0: as many as it said when it had loaded
    num_prompt_tokens: int = 0  # read by the model, where its engine says so
    is_compiling: bool = False  # the last part of loading

    def __add__(self, other: Beat) -> Beat:
        return Beat(
            self.progress + other.progress,
            self.num_tokens + other.num_tokens,
            self.api_calls + other.api_calls,
            self.api_errors + other.api_errors,
            self.cache + other.cache,
            self.calls_in_flight + other.calls_in_flight,
            self.num_texts + other.num_texts,
            self.num_cut + other.num_cut,
            other.num_conversations,
            self.num_prompt_tokens + other.num_prompt_tokens,
            other.is_compiling,
        )


@dataclass(frozen=True, slots=True)
class Broken:
    """Says that the replica can run no item any more, those in flight included."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Log:
    """Carries a line for a person, of `logging`'s level."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Says that everything is reported and given back."""


FromReplica = Loaded | LoadFailed | Done | Failed | Dropped | GivenBack | Beat | Broken | Log | Ended
