"""Starts the launcher from any folder: `python .../launcher/__main__.py COMMAND ...`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This folder's place on the path is the repository's: the current folder may have an `evaluation` of its own.
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from evaluation.toolbench.launcher.commands import entry

    entry()
