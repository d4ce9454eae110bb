"""A judge is served while a command runs, and gone when it ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.pipeline import ROOT, environment, wait_for

pytestmark = pytest.mark.slow

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ.get("VLLM_API_KEY", "").encode())
    def log_message(self, *_): pass
open(os.environ["PID_FILE"], "w").write(str(os.getpid()))
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
# What serve_vllm.sh asks of a Python that has vLLM: whether it does, how to lay the model out, and to serve.
PYTHON = """#!/bin/bash
case "$*" in
*find_spec*) exit 0 ;;
*vllm_layout.py*) echo 0 1 1 2048 ;;
*api_server*) {serve} ;;
*) exec {python} "$@" ;;
esac
"""
ASKS = "import os, urllib.request as r; print(os.environ['JUDGE_MODEL'], r.urlopen(os.environ['JUDGE_URL']).read())"


@pytest.fixture
def start(tmp_path):
    def start(*command: str, serve: str = "", **variables: str) -> subprocess.Popen[str]:
        (tmp_path / "server.py").write_text(SERVER)
        python = tmp_path / "python"
        serve = serve or f'exec {sys.executable} {tmp_path / "server.py"} "$@"'
        python.write_text(PYTHON.format(serve=serve, python=sys.executable))
        python.chmod(0o755)
        told = {
            "JUDGE_PATH": "/models/wise",
            "VLLM_PYTHON": str(python),
            "PID_FILE": str(tmp_path / "pid"),
            **variables,
        }
        return subprocess.Popen(
            ["bash", str(ROOT / "scripts/judge.sh"), *command],
            env=environment(None, **told),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )

    return start


def has_ended(pid_file: Path) -> bool:
    return not psutil.pid_exists(int(pid_file.read_text()))


def test_a_command_runs_beside_the_judge_and_its_exit_code_is_passed_on(start, tmp_path):
    process = start(sys.executable, "-c", f"{ASKS}; raise SystemExit(3)", JUDGE_API_KEY="sk-hush")
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (3, "wise b'sk-hush'\n"), stderr
    assert "sk-hush" not in stderr
    wait_for(lambda: has_ended(tmp_path / "pid"), 60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_judge_does_not_outlive_its_launcher(start, tmp_path, number):
    process = start(sys.executable, "-c", "import time; open('began', 'w'); time.sleep(20)")
    wait_for((tmp_path / "began").exists, 120)
    os.kill(process.pid, number)
    process.wait(60)
    wait_for(lambda: has_ended(tmp_path / "pid"), 60)
    process.communicate(timeout=60)


def test_a_judge_that_cannot_be_served_is_told_with_its_last_words(start):
    process = start("true", serve="echo no room on the card >&2; exit 1")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "no room on the card" in stderr
    assert "The judge /models/wise could not be served." in stderr


def test_without_a_command_or_a_model_one_line_says_so(start):
    for process, said in ((start(), "no command"), (start("true", JUDGE_PATH=""), "JUDGE_PATH is not set")):
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 2
        assert said in stderr
