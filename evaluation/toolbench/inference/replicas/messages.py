"""What a replica and the process that started it say to each other. Plain values: they cross process borders.

The parent sends `RunQuery` and at the end `Stop`; everything else comes from the replica. A replica that
sends nothing more, because it is gone, has sent everything that it had finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from evaluation.toolbench.inference.records.problem import Problem


@dataclass(frozen=True, slots=True)
class RunQuery:
    query_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Begin nothing more; end the conversations between two steps, report them, and then end."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is there."""

    num_conversations: int  # that this replica takes at once
    sees_steps: bool = False  # whether `Beat.progress` counts within a generation
    device_map: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadFailed:
    problem: Problem


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer file is on disk."""

    query_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """`ends_run`: every other query would meet the same, such as a full disk."""

    query_id: str
    problem: Problem
    ends_run: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """Ended between two steps because the run is being stopped."""

    query_id: str


@dataclass(frozen=True, slots=True)
class Beat:
    """How the replica is doing, every second. `progress` grows whenever the model or an API has done something."""

    progress: int
    num_tokens: int
    api_calls: int
    api_errors: int
    calls_in_flight: int = 0  # to APIs


@dataclass(frozen=True, slots=True)
class Broken:
    """The replica can run no query any more, those in flight included."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Log:
    """A line for a person, of `logging`'s level."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Everything is reported and given back."""


FromReplica = Loaded | LoadFailed | Answered | Failed | Dropped | Beat | Broken | Log | Ended
ToReplica = RunQuery | Stop
