"""Finds the Python that set-up made, for programs that are started with another one."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from evaluation.toolbench.inference.command_line import launcher_name

_PACKAGES = ("torch", "transformers", "accelerate")
_CANNOT_START = 2


def use_set_up_python(root: Path, command: str) -> None:
    """Go on in `root`'s .venv where this Python lacks packages; where there is none, say what sets it up and exit.

    `command` is the launcher's command that does the same as this program.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return
    python = root / ".venv/bin/python"
    is_there_already = Path(sys.prefix).resolve() == (root / ".venv").resolve()
    if python.exists() and not is_there_already:
        os.execv(python, [str(python), *sys.argv])
    print(
        f"{sys.executable} has no {missing[0]}: `{launcher_name()} {command}` does the same and first installs what is "
        "needed.",
        file=sys.stderr,
    )
    raise SystemExit(_CANNOT_START)
