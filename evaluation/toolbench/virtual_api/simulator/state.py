"""Says what an API server tells of its simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.toolbench.inference.errors import ApiError


@dataclass(frozen=True)
class SimulatorState:
    """Describes a simulator; `model` is "" for a server without one.

    `problem` says why it cannot be asked now, "" if it can.
    """

    model: str = ""
    url: str = ""
    seed: int = 0
    prompt_sha256: str = ""  # of the system prompt
    is_own_prompt: bool = False
    folder: str = ""  # of the replies that are kept
    problem: str = ""

    @property
    def is_there(self) -> bool:
        return bool(self.model or self.problem)

    @property
    def setting(self) -> str:
        """Return what decides the replies, in a few words.

        >>> SimulatorState("MirrorAPI", seed=42, prompt_sha256="8cdc5f1281").setting, SimulatorState().setting
        ('MirrorAPI (prompt 8cdc5f12, seed 42)', 'none')
        """
        return f"{self.model} (prompt {self.prompt_sha256[:8]}, seed {self.seed})" if self.model else "none"

    @property
    def in_words(self) -> str:
        """Say who answers what is not recorded."""
        prompt = " (our own prompt: SIMULATOR_PROMPTS names StableToolBench's)" if self.is_own_prompt else ""
        return f"the rest is simulated by {self.model} at {self.url}{prompt}; its replies are kept in {self.folder}"

    def refuse_problem(self) -> None:
        """Raise ApiError for a simulator that cannot be asked."""
        if self.problem:
            raise ApiError(self.problem, url=self.url)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SimulatorState:
        """Read what `to_json` returned; keys of a later version are left out."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})
