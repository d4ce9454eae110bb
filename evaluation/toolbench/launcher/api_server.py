"""The offline API server beside a run: a process of its own that ends with the run, whatever ends that."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from evaluation.toolbench.inference.errors import ApiError

_START_S = 60.0
_LOOK_EVERY_S = 0.05
_END_S = 10.0


class ApiServer:
    """Replays the response cache at `cache_dir` while entered. It starts at once; `url` waits until it listens."""

    def __init__(self, cache_dir: Path, root: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="toolgen-api-")
        self._ready, self._log = Path(self._folder.name, "url"), Path(self._folder.name, "log")
        launcher = root / "evaluation/toolbench/launcher/__main__.py"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, str(launcher), "api", "--cache_dir", str(cache_dir), "--port", "0"),
                    *("--ready_file", str(self._ready), "--exit_with_parent", str(os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the run's to take: its last calls are still answered
            )

    def url(self) -> str:
        """Where it listens. ApiError if it has ended or says nothing."""
        deadline = time.monotonic() + _START_S
        while not (url := self._read(self._ready)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ApiError(
                    f"{self.said()}\nThe offline API server did not start. Set SERVICE_URL to use another one."
                )
            time.sleep(_LOOK_EVERY_S)
        return url

    def said(self) -> str:
        """What it has written to its log."""
        return self._read(self._log)

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return ""
