"""Holds an error as plain data, for a file or another process."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any

from evaluation.toolbench.inference import errors
from evaluation.toolbench.inference.errors import ToolGenError


@dataclass(frozen=True, slots=True)
class Problem:
    """Holds an exception as another process can be told it; of a ToolGenError's `details` the plain ones are kept."""

    type: str
    message: str
    traceback: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: BaseException) -> Problem:
        details = error.details if isinstance(error, ToolGenError) else {}
        return cls(
            type(error).__name__,
            str(error),
            "".join(traceback.format_exception(error)),
            {key: value for key, value in details.items() if isinstance(value, str | int | float | None)},
        )

    def as_error(self) -> ToolGenError:
        """Return an error to raise in this process: of the same type where that is one of ours."""
        kind = getattr(errors, self.type, None)
        if isinstance(kind, type) and issubclass(kind, ToolGenError):
            return kind(self.message, **self.details)
        return ToolGenError(f"{self.type}: {self.message}")
