"""Runs helpers that check Triton kernels in processes where Triton interprets them: it decides when it is imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_FOLDER = Path(__file__).parent

interpreted = pytest.mark.skipif(
    torch.cuda.is_available() or not importlib.util.find_spec("triton"),
    reason="the kernels run on the GPU here, or triton is not installed",
)


def run_interpreted(helper: str, *arguments: str) -> str:
    """What a script of this folder prints, which succeeds."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(_FOLDER.parents[1])}
    command = [sys.executable, str(_FOLDER / helper), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
