"""The launcher: one name for everything, mistakes in a moment, and nothing installed to be told about them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.toolbench.launcher import VERSION
from evaluation.toolbench.launcher.commands import COMMANDS, main
from tests.helpers.pipeline import ROOT

LAUNCHER = ROOT / "evaluation/toolbench/launcher/__main__.py"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python without any package, as on a machine where nothing is set up yet."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def launch(python: str | Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, str(LAUNCHER), *arguments], env=environment, text=True, capture_output=True, check=False, **options
    )


def test_the_help_lists_every_command_and_has_examples(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command.name} " in said
    assert "examples:" in said


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_commands_help_has_examples_that_can_be_copied(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["toolgen"])
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: toolgen {command} ")
    assert f"bash scripts/toolgen.sh {command}" in said.split("examples:")[1]


def test_the_version_names_what_is_installed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"toolgen-multi-gpu {VERSION} (torch ")


def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path):
    (tmp_path / "slow.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    code = """
from evaluation.toolbench.launcher import commands
commands.COMMANDS = (commands.Command("wait", "", "slow:make_parser", "slow:main"),)
commands.entry()
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    run = subprocess.run([sys.executable, "-c", code, "wait"], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


def test_a_command_that_does_not_exist_is_one_line_with_a_guess(capsys):
    assert main(["docter"]) == 2
    assert capsys.readouterr().err == "toolgen: no command 'docter'; did you mean doctor? (--help lists them)\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--overwite"], "toolgen run: unrecognized arguments: --overwite; did you mean --overwrite?"),
        (["score", "--minimum", "much"], "toolgen score: argument --minimum: invalid float value: 'much'"),
        (["retrieval", "--satge=G1"], "toolgen retrieval: unrecognized arguments: --satge=G1; did you mean --stage?"),
        (["report"], "toolgen report: the following arguments are required: ANSWER_FOLDER"),
        (["api", "--prot", "1"], "toolgen api: unrecognized arguments: --prot 1; did you mean --port?"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_installed(bare_python, arguments, said):
    run = launch(bare_python, "--first_look", *arguments)
    assert run.returncode == 2
    assert run.stderr.startswith(said)
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["score", "--help"], ["retrieval", "--help"]]
)
def test_help_and_version_need_nothing_installed(bare_python, arguments):
    run = launch(bare_python, "--first_look", *arguments)
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_what_can_run_is_left_to_the_environment_that_is_set_up_first(bare_python):
    run = launch(bare_python, "--first_look", "run", "--seed", "1")
    assert (run.returncode, run.stdout, run.stderr) == (75, "", "")


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
@pytest.mark.parametrize("flag", ["--bogus", "--help"])
def test_help_and_mistakes_come_before_torch_is_imported(command, flag):
    program = (
        "import contextlib, sys\nfrom evaluation.toolbench.launcher.commands import main\n"
        f"try:\n with contextlib.redirect_stdout(sys.stderr): main(['{command}', '{flag}'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout == "False\n"


def test_the_doctors_program_says_in_one_line_how_to_get_what_it_lacks(bare_python, tmp_path):
    tree = tmp_path / "tree"
    (tree / "evaluation").mkdir(parents=True)
    (tree / "evaluation/toolbench").symlink_to(ROOT / "evaluation/toolbench")
    (tree / "scripts").symlink_to(ROOT / "scripts")
    shutil.copy(ROOT / "test_multi_gpu.py", tree)
    run = subprocess.run([bare_python, "test_multi_gpu.py"], cwd=tree, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    does_the_same = "`bash scripts/toolgen.sh doctor` does the same and first installs what is needed."
    assert run.stderr == f"{bare_python} has no torch: {does_the_same}\n"


def test_the_doctors_program_goes_on_in_the_environment_that_was_set_up(bare_python, tmp_path):
    tree = tmp_path / "tree"
    (tree / "evaluation").mkdir(parents=True)
    (tree / "evaluation/toolbench").symlink_to(ROOT / "evaluation/toolbench")
    (tree / ".venv/bin").mkdir(parents=True)
    python = tree / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    shutil.copy(ROOT / "test_multi_gpu.py", tree)
    run = subprocess.run(
        [bare_python, "test_multi_gpu.py", "--simulate", "3x24GiB"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "one replica over GPUs 0-2" in run.stdout.replace("\n", " ")
