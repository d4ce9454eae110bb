"""Runs `toolgen judge`: vLLM serves a judge on this machine's GPUs for as long as a command runs."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from evaluation.toolbench.inference.command_line import OneLineParser, called_as, run_program, say
from evaluation.toolbench.inference.errors import ConfigError, JudgeError
from evaluation.toolbench.launcher.run import ROOT, run_process

_READY = "Ready "  # how serve_vllm.sh begins its line
_LAST_LINES = 15  # of the server's log, where it did not start
_END_S = 40.0

_EXAMPLES = """
JUDGE_PATH=/models/Qwen2.5-32B-Instruct toolgen judge bash scripts/pass_rate/run_pass_rate.sh
JUDGE_PATH=/models/Qwen2.5-32B-Instruct toolgen judge bash scripts/preference/run_preference.sh
"""
_VARIABLES = """environment variables:
  JUDGE_PATH           folder or hub name of a chat model
  JUDGE_MAX_MODEL_LEN  longest prompt and verdict in tokens, within the model's own limit   (16384)
  JUDGE_API_KEY        a key that the server then asks for; not written anywhere
  VLLM_PYTHON, CUDA_VISIBLE_DEVICES   as for scripts/serve_vllm.sh"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command beside the judge; return its exit code, or 2 without a judge."""
    options = make_parser().parse_args(argv)
    return run_program(lambda: _run(options.command))


def make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog=called_as("toolgen judge"),
        examples=_EXAMPLES,
        description="Serve the model at $JUDGE_PATH with vLLM on the visible GPUs, run a command with JUDGE_URL and "
        "JUDGE_MODEL set to it, and stop the server when the command ends. `evaluate` does this by itself.",
        epilog=_VARIABLES,
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what asks the judge")
    return parser


def _run(command: Sequence[str]) -> int:
    if not command:
        raise ConfigError("no command: name what is to ask the judge, such as bash scripts/pass_rate/run_pass_rate.sh")
    if not os.environ.get("JUDGE_PATH"):
        raise ConfigError("JUDGE_PATH is not set: the folder of a chat model that is to judge")
    with JudgeServer(os.environ["JUDGE_PATH"]) as server:
        return run_process(command, {**os.environ, **server.variables})


class JudgeServer:
    """Serves the model at `model_path` while entered. `variables` tell the judging commands of it. JudgeError."""

    def __init__(self, model_path: str) -> None:
        self._model_path = model_path
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self._port = unused.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed with the server

    @property
    def variables(self) -> Mapping[str, str]:
        return {"JUDGE_URL": f"http://127.0.0.1:{self._port}/v1", "JUDGE_MODEL": Path(self._model_path).name}

    def __enter__(self) -> JudgeServer:
        say(f"Starting the judge {self._model_path}; a large model takes minutes")
        self._process = subprocess.Popen(
            ["bash", str(ROOT / "scripts/serve_vllm.sh")],
            env={
                **os.environ,
                "MODEL_PATH": self._model_path,
                "HOST": "127.0.0.1",
                "PORT": str(self._port),
                "MAX_MODEL_LEN": os.environ.get("JUDGE_MAX_MODEL_LEN") or "16384",
                "ENGINE_API_KEY": os.environ.get("JUDGE_API_KEY", ""),
                "EXIT_WITH": str(os.getpid()),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Ctrl-C is the command's to take
        )
        try:
            assert self._process.stdout is not None
            if not any(line.startswith(_READY) for line in self._process.stdout):
                raise JudgeError(
                    f"{self._last_lines()}\nThe judge {shlex.quote(self._model_path)} could not be served."
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and everything that it started."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._log.close()

    def _last_lines(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-_LAST_LINES:])
