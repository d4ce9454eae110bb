"""Decides when a step is worth another attempt, and how it is drawn then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["actions", "give_up", "sorry"]

_TEMPERATURES = (0.0, 0.6, 1.0, 1.0, 1.0)  # of the attempts at one step
_SORRY = ("I'm sorry", "apologize")


@dataclass(frozen=True)
class AttemptPolicy:
    """Says which results of a step are tried again: a call made before, a give-up, an apology as the answer."""

    enabled: bool = False
    repeated_call: bool = False
    give_up: bool = True
    sorry: bool = True

    def temperatures(self, first: float) -> tuple[float, ...]:
        """Return one temperature per attempt: `first`, then ever more freedom, never less than `first`."""
        return tuple(max(first, t) for t in _TEMPERATURES) if self.enabled else (first,)

    def reason(self, arguments: str, *, is_finish: bool, is_repeated: bool) -> Reason | None:
        """Return why a known action with these arguments is not taken yet; None when it is."""
        if not is_finish:
            return "actions" if is_repeated and self.repeated_call else None
        if "give_up_and_restart" in arguments and self.give_up:
            return "give_up"
        if any(words in arguments for words in _SORRY) and self.sorry:
            return "sorry"
        return None
