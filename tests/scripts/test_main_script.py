"""The main command, run as a person runs it: a real shell, real processes, interruptions."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from evaluation.toolbench.inference.run.interruption import STOPPING
from tests.helpers.pipeline import wait_for
from tests.helpers.script import SHORT_RUN, ScriptWorld, answers, run_script, run_script_here, start_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ScriptWorld(tmp_path_factory.mktemp("my world"))


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    """The folder that a run from an otherwise empty folder wrote into, and the run."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    run = run_script(world.settings(cwd / "my answers", CUDA_VISIBLE_DEVICES=""), *SHORT_RUN, cwd=cwd)
    return cwd / "my answers", run


def processes_of(script: subprocess.Popen[str], output: Path) -> list[psutil.Process]:
    """The run and its API server, once there is an answer more than before."""
    num_answers = len(answers(output))
    wait_for(lambda: script.poll() is not None or len(answers(output)) > num_answers)
    assert script.poll() is None, script.communicate()
    run = psutil.Process(script.pid)  # the shell has become the run
    children = run.children(recursive=True)
    assert len(children) == 1
    return [run, *children]


def test_it_shows_the_gpus_and_answers_every_query(undisturbed):
    output, run = undisturbed
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[:5] == [
        "=== GPU配置信息 ===",
        "CUDA_VISIBLE_DEVICES: ",
        "CUDA available: False",
        "GPU count: 0",
        "==================",
    ]
    assert len(answers(output / "G3_instruction")) == 9
    assert f"Answers: {output / 'G3_instruction'}" in run.stdout.splitlines()
    assert [path.name for path in output.parent.iterdir()] == ["my answers"]  # nothing else where it was started


def test_a_second_run_does_nothing_and_says_so(world, undisturbed):
    output, before = undisturbed[0], answers(undisturbed[0] / "G3_instruction")
    run = run_script_here(world.settings(output), *SHORT_RUN)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("Nothing to do: all 9 queries are answered in ")
    assert answers(output / "G3_instruction") == before


def test_interrupted_and_killed_it_leaves_no_process_and_goes_on_to_the_same_answers(world, undisturbed, tmp_path):
    output = tmp_path / "answers" / "G3_instruction"
    settings = world.settings(tmp_path / "answers", NUM_THREAD="1")
    expected = answers(undisturbed[0] / "G3_instruction")

    stopped = start_script(settings, *SHORT_RUN, cwd=tmp_path)
    children = processes_of(stopped, output)
    stopped.send_signal(signal.SIGINT)
    stdout, stderr = stopped.communicate(timeout=300)
    assert stopped.returncode == 130, stderr
    assert STOPPING in stderr
    assert "queries are left" in stdout
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert answers(output).items() < expected.items()

    killed = start_script(settings, *SHORT_RUN, cwd=tmp_path)
    children = processes_of(killed, output)
    killed.kill()
    killed.communicate()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert answers(output).items() < expected.items()

    assert run_script_here(settings, *SHORT_RUN).returncode == 0
    assert answers(output) == expected


def test_a_signal_before_the_pipeline_has_begun_ends_it(world, tmp_path):
    script = start_script(world.settings(tmp_path / "answers"), cwd=tmp_path)
    wait_for(lambda: _has_child(script.pid))  # the API server has been started
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=300)
    assert script.returncode == 128 + signal.SIGTERM
    wait_for(lambda: not _has_child(script.pid))


def test_a_run_under_nohup_goes_on_when_its_terminal_is_closed(world, undisturbed, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the script inherits, as from nohup
    try:
        script = start_script(world.settings(tmp_path / "answers", NUM_THREAD="1"), *SHORT_RUN, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(lambda: _has_child(script.pid))  # the API server has been started
    script.send_signal(signal.SIGHUP)
    processes_of(script, tmp_path / "answers" / "G3_instruction")  # waits for a first answer
    script.send_signal(signal.SIGHUP)
    _, stderr = script.communicate(timeout=300)
    assert script.returncode == 0, stderr
    assert answers(tmp_path / "answers" / "G3_instruction") == answers(undisturbed[0] / "G3_instruction")


def test_output_that_cannot_be_written_ends_no_run(world, undisturbed, tmp_path):
    """Such as a log on a disk that is full: the answers may be elsewhere."""
    with open("/dev/full", "w") as full:
        script = start_script(world.settings(tmp_path / "answers"), *SHORT_RUN, cwd=tmp_path, output=full)
    assert script.wait(300) == 0
    assert answers(tmp_path / "answers" / "G3_instruction") == answers(undisturbed[0] / "G3_instruction")


def test_a_dry_run_of_which_enough_was_read_ends_quietly(world, tmp_path):
    script = start_script(world.settings(tmp_path / "answers"), "--dry_run", cwd=tmp_path)
    script.stdout.close()
    stderr = script.stderr.read()
    assert (script.wait(300), stderr) == (141, "")


def test_without_a_cache_it_uses_the_api_server_of_toolgens_own_script(world, tmp_path):
    """And does not run a whole evaluation on errors where there is none."""
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", 8080)) == 0:
            pytest.skip("something listens on port 8080 of this machine")
    data = shutil.copytree(world.data, tmp_path / "data", ignore=lambda *_: {"tool_response_cache"})
    run = run_script_here({**world.settings(tmp_path / "answers"), "DATA_DIR": str(data)}, *SHORT_RUN)
    assert "using the API server at http://localhost:8080/virtual" in run.stderr
    assert run.returncode == 2
    assert "No virtual API server at http://localhost:8080/virtual" in run.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["evaluation", "scripts"])
def test_the_current_folder_may_hold_modules_of_the_same_names(world, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    settings = {**world.settings(tmp_path / "answers", MODEL_PATH="no such model"), "CDPATH": f".:{tmp_path}"}
    run = run_script(settings, cwd=tmp_path)
    [line] = run.stderr.splitlines()
    assert line.startswith(f"no model folder at {tmp_path / 'no such model'}: ")


def test_bad_input_is_one_line_and_exit_code_2(world, tmp_path):
    settings = world.settings(tmp_path / "answers", MODEL_PATH=str(tmp_path / "no such model"))
    run = run_script({**settings, "API_CACHE_DIR": str(tmp_path)}, cwd=tmp_path)
    assert run.returncode == 2
    [line] = run.stderr.splitlines()
    assert line.startswith(f"no model folder at {tmp_path / 'no such model'}: ")
    assert not (tmp_path / "answers").exists()


def _has_child(script_pid: int) -> bool:
    """Whether anything runs that was started to end with that script."""
    ends_with = ["--exit_with_parent", str(script_pid)]
    command_lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return any(set(ends_with) <= set(command_line) for command_line in command_lines)
