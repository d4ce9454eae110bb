"""Holds what a check reports: a line for people, the same facts as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """`measured` is one line: what was found, or why the check was skipped. `advice` comes with a failure."""

    check: str
    status: Status
    measured: str
    advice: str = ""
    details: tuple[str, ...] = ()  # further lines: a table, a map
    facts: Mapping[str, Any] = field(default_factory=dict)  # for JSON alone

    def lines(self) -> list[str]:
        """Return lines: the check, then `ok ...`, `FAIL ...` or `skip (...)`, and below it what belongs to it."""
        said = {"ok": f"ok    {self.measured}", "fail": f"FAIL  {self.measured}", "skip": f"skip ({self.measured})"}
        lines = [f"{self.check:<20} {said[self.status]}"]
        if self.advice:
            lines.append(f"{'':<20} try   {self.advice}")
        return [*lines, *(f"    {line}" for line in self.details)]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def needs(check: str, wanted: int, found: int) -> Finding:
    """Return the skipped outcome of a check that needs more GPUs than there are."""
    return Finding(check, "skip", f"needs {wanted} GPU{'s' * (wanted > 1)}, found {found}")


def exit_code(findings: list[Finding]) -> int:
    """Return 0 when nothing failed, 1 otherwise."""
    return int(any(finding.status == "fail" for finding in findings))
