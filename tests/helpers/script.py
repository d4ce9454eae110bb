"""The main command as a person starts it: a shell, hardly any environment, another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from evaluation.toolbench.launcher.run import main
from tests.helpers.pipeline import ROOT, World, called, record_nothing

SCRIPT = Path("scripts/inference/inference_toolgen_pipeline_virtual.sh")

# A second or two of work with one conversation at a time: enough to be interrupted in.
SHORT_RUN = ("--single_chain_max_step", "6", "--max_new_tokens", "24")


class ScriptWorld(World):
    """A world laid out as the script looks for it, under a path with blanks."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        folder = self.data / "solvable_queries" / "test_instruction"
        folder.mkdir(parents=True)
        self.queries = self.queries.rename(folder / "G3_instruction.json")
        self.make_checkpoint()
        record_nothing(self.data / "tool_response_cache")

    def settings(self, output: Path, **more: str) -> dict[str, str]:
        """The variables of a run that answers into `output`."""
        return {
            "MODEL_PATH": str(self.model),
            "DATA_DIR": str(self.data),
            "OUTPUT_DIR": str(output),
            "RESTRICT_ACTIONS": "all",
            **more,
        }


def start_script(
    settings: dict[str, str], *arguments: str, root: Path = ROOT, cwd: Path, output: int | IO[str] = subprocess.PIPE
) -> subprocess.Popen[str]:
    """The script of the tree at `root`, with nothing in its environment but what every shell has, and `settings`."""
    usual = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR", "OMP_NUM_THREADS") if name in os.environ}
    return subprocess.Popen(
        ["bash", str(root / SCRIPT), *arguments],
        env={**usual, "PYTHON": sys.executable, **settings},
        cwd=cwd,
        text=True,
        stdout=output,
        stderr=output,
    )


def run_script(
    settings: dict[str, str], *arguments: str, root: Path = ROOT, cwd: Path, timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    """The same, waited for."""
    process = start_script(settings, *arguments, root=root, cwd=cwd)
    stdout, stderr = process.communicate(timeout=timeout_s)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run_script_here(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the script becomes, in this process, which has torch already: seconds less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SERVICE_URL", raising=False)
        patch.setattr(sys, "path", [*sys.path])
        return called(main, arguments, settings)


def answers(folder: Path) -> dict[str, bytes]:
    """The answers that a run has written, by file name."""
    return {path.name: path.read_bytes() for path in folder.glob("*_CoT@1.json")}
