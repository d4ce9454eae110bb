"""Tells whether this Python has what requirements files ask for. Exit code 0: yes; 1: no, with what is missing.

Standard library only, since it runs before anything is installed.

    python check_requirements.py requirements.txt [requirements-dev.txt]
"""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path

OLDEST_PYTHON = (3, 10)


def version_key(version: str) -> tuple[int, ...]:
    """Return the numeric release part: "2.13.0+cpu" and "2.13.0rc1" give (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def satisfies(version: str, bounds: str) -> bool:
    """Return whether `version` lies within `bounds`, a comma list of >=X and <X (all that our files use)."""
    for bound in filter(None, bounds.split(",")):
        operator, limit = (">=", bound[2:]) if bound.startswith(">=") else ("<", bound[1:])
        found, wanted = version_key(version), version_key(limit)
        width = max(len(found), len(wanted))
        found, wanted = found + (0,) * (width - len(found)), wanted + (0,) * (width - len(wanted))
        if (found < wanted) if operator == ">=" else (found >= wanted):
            return False
    return True


def applies(marker: str) -> bool:
    """Return whether this machine is meant: name == "value", joined by `and` (all our files use); "" means any."""
    here = {"platform_system": platform.system(), "platform_machine": platform.machine()}
    conditions = [condition.split("==") for condition in marker.split(" and ") if condition.strip()]
    return all(here[name.strip()] == value.strip().strip("\"'") for name, value in conditions)


def missing_from(path: Path) -> list[str]:
    """Return requirements of the file that this Python does not meet."""
    missing: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        requirement, _, marker = (part.strip() for part in line.split("#")[0].partition(";"))
        if requirement and applies(marker):
            name, bounds = re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
            try:
                found = metadata.version(name)
            except metadata.PackageNotFoundError:
                missing.append(f"{requirement} (not installed)")
                continue
            if not satisfies(found, bounds.replace(" ", "")):
                missing.append(f"{requirement} (found {found})")
    return missing


def main() -> int:
    if sys.version_info < OLDEST_PYTHON:
        print(f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer (found {sys.version.split()[0]})")
        return 1
    missing = [line for path in sys.argv[1:] for line in missing_from(Path(path))]
    print("\n".join(missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
