"""Set-up before anything is installed: which Python, which torch, and what is said where it cannot be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pipeline import ROOT

spec = importlib.util.spec_from_file_location("torch_index", ROOT / "scripts/lib/torch_index.py")
assert spec is not None
assert spec.loader is not None
torch_index = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torch_index)

OLD = '#!/bin/sh\nif [ "$1" = -V ]; then echo Python 3.8.18; else exit 1; fi\n'
NEW = "#!/bin/sh\nexit 0\n"


def pythons(folder: Path, **scripts: str) -> str:
    """A PATH of what every shell has, with these programs in front and no other Python."""
    tools = folder / "bin"
    tools.mkdir()
    for name, text in scripts.items():
        (tools / name.replace("python3_", "python3.")).write_text(text)
        (tools / name.replace("python3_", "python3.")).chmod(0o755)
    for tool in ("bash", "dirname", "sed"):
        found = subprocess.run(["bash", "-c", f"type -P {tool}"], capture_output=True, text=True, check=True)
        (tools / tool).symlink_to(found.stdout.strip())
    return str(tools)


def new_enough_python(path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = f'ROOT={ROOT}; . "$ROOT/scripts/lib/python_env.sh"; new_enough_python'
    return subprocess.run(
        ["bash", "-c", script], env={"PATH": path, **environment}, capture_output=True, text=True, check=False
    )


def test_a_newer_python_beside_an_old_one_is_found(tmp_path):
    found = new_enough_python(pythons(tmp_path, python3=OLD, python3_11=NEW))
    assert (found.returncode, found.stdout, found.stderr) == (0, "python3.11\n", "")


@pytest.mark.parametrize(
    ("scripts", "environment", "said"),
    [
        ({"python3": OLD}, {}, "python3 is Python 3.8.18; this needs Python 3.10 or newer: set PYTHON to one."),
        ({"old": OLD, "python3": NEW}, {"PYTHON": "old"}, "old is Python 3.8.18; this needs Python 3.10 or newer"),
        ({}, {}, "No Python found ('python3'): install Python 3.10 or newer, or set PYTHON to one."),
    ],
)
def test_no_python_that_is_new_enough_is_one_line(tmp_path, scripts, environment, said):
    found = new_enough_python(pythons(tmp_path, **scripts), **environment)
    assert found.returncode == 1
    assert found.stderr.startswith(said)
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "has_nvidia", "system", "index"),
    [
        ({}, False, "Linux", torch_index.CPU_INDEX),
        ({}, True, "Linux", ""),
        ({}, False, "Darwin", ""),
        ({"TORCH_INDEX_URL": "https://mirror/cpu"}, True, "Linux", "https://mirror/cpu"),
        ({"TORCH_INDEX_URL": ""}, False, "Linux", ""),
    ],
)
def test_torch_comes_from_the_index_that_suits_the_machine(environment, has_nvidia, system, index):
    assert torch_index.torch_index(environment, has_nvidia=has_nvidia, system=system) == index


def test_an_environment_with_torch_keeps_its_torch():
    program = [sys.executable, str(ROOT / "scripts/lib/torch_index.py")]
    assert subprocess.run(program, capture_output=True, check=True, env={"TORCH_INDEX_URL": "x"}).stdout == b""


@pytest.mark.parametrize("name", ["run_tests.sh", "serve_vllm.sh"])
def test_help_explains_and_installs_nothing(tmp_path, name):
    script = ["bash", str(ROOT / "scripts" / name), "--help"]
    run = subprocess.run(script, env={"PATH": pythons(tmp_path), "HOME": str(tmp_path)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert f"bash scripts/{name}" in run.stdout
    assert run.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
