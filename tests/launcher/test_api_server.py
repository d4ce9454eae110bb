"""The API server beside a run is kept alive: real processes, killed, ended and stopped for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from evaluation.toolbench.launcher import api_server
from evaluation.toolbench.launcher.api_server import ApiServer
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.retry_policy import CallRetryPolicy
from tests.helpers.pipeline import ROOT, wait_for

CALL = {"category": "Data", "tool_name": "t", "api_name": "a", "tool_input": "{}", "strip": "truncate"}
REPLY = {"error": "", "response": "fine"}


@pytest.fixture
def cache_dir(tmp_path):
    folder = tmp_path / "cache/Data/t_for_Data"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text(json.dumps({"{}": REPLY}))
    return tmp_path / "cache"


def server_pids() -> list[int]:
    """The process ids of this process's API servers that run."""
    return [child.pid for child in psutil.Process().children() if "--exit_with_parent" in command_line(child)]


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # also a zombie, which it may have become just now
        return []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_server_that_dies_or_hangs_is_started_again_and_costs_calls_nothing_but_time(
    cache_dir, monkeypatch, caplog, number
):
    monkeypatch.setattr(api_server, "_ASK_EVERY_S", 0.1)
    monkeypatch.setattr(api_server, "_ANSWER_S", 1.0)
    with (
        ApiServer(cache_dir, ROOT) as server,
        ApiClient(server.url(), retry=CallRetryPolicy(unreachable_s=300)) as client,
    ):
        for _ in range(2):
            assert client.call(**CALL) == (json.dumps(REPLY), 0)
            before = server_pids()
            os.kill(before[0], number)
            while server_pids() in (before, []):
                assert client.call(**CALL) == (json.dumps(REPLY), 0)
    assert "The API server is gone: it " in caplog.text
    assert server_pids() == []


def test_a_server_that_cannot_be_started_again_is_given_up_in_a_few_lines(cache_dir, caplog):
    with ApiServer(cache_dir, ROOT) as server:
        server.url()
        wait_for(lambda: api_server._answers(server.url()))
        shutil.rmtree(cache_dir)
        os.kill(server_pids()[0], signal.SIGKILL)
        wait_for(lambda: "is not started again: No response cache at" in caplog.text)
    assert len(caplog.records) <= 6


def test_a_folder_for_temporary_files_that_is_not_there_does_no_harm(cache_dir):
    """TMPDIR of a job that has ended, say."""
    code = f"""
import sys
from pathlib import Path
from evaluation.toolbench.launcher.api_server import ApiServer
with ApiServer(Path({str(cache_dir)!r}), Path({str(ROOT)!r})) as server:
    print(server.url())
"""
    environment = {**os.environ, "TMPDIR": "/no/such/folder"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout[:7]) == (0, "http://"), run.stderr


@pytest.fixture
def run(cache_dir, tmp_path):
    """A process that has started a server, and whose folder for temporary files is `tmp_path / "temporary"`."""
    code = f"""
import time
from pathlib import Path
from evaluation.toolbench.launcher.api_server import ApiServer
server = ApiServer(Path({str(cache_dir)!r}), Path({str(ROOT)!r}))
print(server.url(), flush=True)
time.sleep(300)
"""
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE) as run:
        assert run.stdout.readline().startswith(b"http://")
        yield run
        run.kill()


def test_a_run_that_is_killed_leaves_no_file_of_its_server(run, tmp_path):
    servers = psutil.Process(run.pid).children()
    run.kill()
    assert psutil.wait_procs(servers, timeout=60)[1] == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_server_that_hangs_keeps_nobody_waiting_who_reads_what_its_run_printed(run):
    (server,) = psutil.Process(run.pid).children()
    server.suspend()
    try:
        run.kill()
        reader = threading.Thread(target=run.stdout.read, daemon=True)
        reader.start()
        reader.join(60)
        assert not reader.is_alive()
    finally:
        server.kill()
