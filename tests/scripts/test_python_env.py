"""Which Python the scripts take, and what they install where none has all they need."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TREE, CHECKOUT = "requirements.txt", "requirements-checkout.txt"

# A Python that has what the file HAS beside it lists, and makes environments like itself.
FAKE_PYTHON = """#!/usr/bin/env bash
has=$(dirname "$0")/HAS
case "$*" in
    *check_requirements.py*) for file in "${@:2}"; do grep -qx "$(basename "$file")" "$has" || exit 1; done ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/bin/HAS" ;;
    "-m pip "*" install "*) for file in "$@"; do [[ $file != *.txt ]] || basename "$file" >>"$has"; done ;;
esac
"""


class Tree:
    """A tree with the scripts' own files and nothing else, and an active Python with `has`."""

    def __init__(self, folder: Path, *, has: list[str], is_checkout: bool) -> None:
        self.root, self.bin = folder / "my tree", folder / "bin"
        shutil.copytree(ROOT / "scripts" / "lib", self.root / "scripts" / "lib")
        for name in (TREE, CHECKOUT):
            shutil.copy(ROOT / name, self.root)
        if is_checkout:
            (self.root / "evaluation" / "toolbench").mkdir(parents=True)
            (self.root / "evaluation" / "toolbench" / "utils.py").touch()
        self.bin.mkdir()
        for name in ("python3", "python"):
            (self.bin / name).write_text(FAKE_PYTHON, encoding="utf-8")
            (self.bin / name).chmod(0o755)
        (self.bin / "HAS").write_text("".join(f"{name}\n" for name in has), encoding="utf-8")

    def python(self) -> Path:
        """The interpreter that the main script would take."""
        script = f'ROOT=$1; . "$1/scripts/lib/python_env.sh"; use_python_with "$1/{TREE}"; echo "$PYTHON"'
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script, "-", str(self.root)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return Path(run.stdout.strip())

    def installed(self) -> list[str]:
        """The lists that were installed into .venv."""
        return (self.root / ".venv" / "bin" / "HAS").read_text(encoding="utf-8").split()


@pytest.mark.parametrize(("is_checkout", "installed"), [(False, [TREE]), (True, [TREE, CHECKOUT])])
def test_set_up_in_a_checkout_brings_what_the_checkouts_own_files_need(tmp_path, is_checkout, installed):
    tree = Tree(tmp_path, has=[], is_checkout=is_checkout)
    for _ in range(2):  # the second time there is nothing to do
        assert tree.python() == tree.root / ".venv" / "bin" / "python"
    assert tree.installed() == installed


def test_an_environment_from_before_the_tree_lay_in_a_checkout_is_completed(tmp_path):
    tree = Tree(tmp_path, has=[], is_checkout=False)
    tree.python()
    (tree.root / "evaluation" / "toolbench").mkdir(parents=True)
    (tree.root / "evaluation" / "toolbench" / "utils.py").touch()
    tree.python()
    assert tree.installed() == [TREE, TREE, CHECKOUT]


def test_an_active_python_that_can_run_the_pipeline_is_taken_as_it_is(tmp_path):
    tree = Tree(tmp_path, has=[TREE], is_checkout=True)
    assert tree.python() == tree.bin / "python3"
    assert not (tree.root / ".venv").exists()


SCRIPTS = [path.relative_to(ROOT) for path in sorted(ROOT.glob("scripts/**/*.sh")) if path.parent.name != "lib"]


@pytest.mark.skipif(shutil.which("dash") is None, reason="needs a shell that is not bash")
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_that_is_started_with_sh_goes_on_in_bash(script):
    run = subprocess.run(["dash", ROOT / script, "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) > 3
