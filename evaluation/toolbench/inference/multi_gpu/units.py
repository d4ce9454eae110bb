"""Reads and writes bytes as people do: "20GiB", "512 MiB", "15.7 GiB"."""

from __future__ import annotations

import re

from evaluation.toolbench.inference.errors import ConfigError

KIB = 2**10
MIB = 2**20
GIB = 2**30

_UNITS = {"gib": GIB, "mib": MIB, "kib": KIB, "gb": 10**9, "mb": 10**6, "kb": 10**3}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmg]i?b)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes that `text` names: a positive number with a unit. ConfigError otherwise.

    >>> parse_size("20GiB") == 20 * GIB, parse_size("1.5 gib") == 1536 * MIB, parse_size("24GB")
    (True, True, 24000000000)
    """
    match = _SIZE.fullmatch(text.strip())
    num_bytes = int(float(match["number"]) * _UNITS[match["unit"].lower()]) if match else 0
    if num_bytes <= 0:
        raise ConfigError(f"{text!r} is not an amount of memory; write a number with its unit, like 20GiB or 20000MiB")
    return num_bytes


def format_exact(num_bytes: int) -> str:
    """Return `num_bytes` in the style of a `max_memory` map, exact to the MiB and rounded down.

    >>> format_exact(20 * GIB), format_exact(20_000 * MIB + 1), format_exact(0)
    ('20GiB', '20000MiB', '0MiB')
    """
    return f"{num_bytes // GIB}GiB" if num_bytes and num_bytes % GIB == 0 else f"{max(num_bytes, 0) // MIB}MiB"


def gib(num_bytes: float) -> str:
    """Return `num_bytes` for a sentence or a table cell: GiB with one decimal, smaller amounts in a smaller unit.

    >>> gib(15.7 * GIB), gib(0.67 * MIB), gib(131_072), gib(0)
    ('15.7 GiB', '0.67 MiB', '128 KiB', '0')
    """
    if num_bytes >= GIB / 10:
        return f"{num_bytes / GIB:.1f} GiB"
    if num_bytes >= 10 * MIB:
        return f"{num_bytes / MIB:.0f} MiB"
    if num_bytes >= MIB / 2:
        return f"{num_bytes / MIB:.2f} MiB"
    return f"{num_bytes / KIB:.0f} KiB" if num_bytes else "0"
