"""Keeps the offline API server beside a run: a process of its own, alive until the run ends, whatever ends that."""

from __future__ import annotations

import http.client
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from evaluation.toolbench.inference.errors import ApiError
from evaluation.toolbench.inference.process_watch import how_it_ended, unnamed_file
from evaluation.toolbench.virtual_api.config import LISTENING

logger = logging.getLogger(__name__)

_START_S = 60.0
_LOOK_EVERY_S = 0.05
_END_S = 10.0
# A server that is dead is seen at once. One that is alive and answers nothing for three looks of 5 s hangs: calls,
# which may take 120 s, then still have time for the next one.
_ASK_EVERY_S = 5.0
_ANSWER_S = 5.0
_MAX_MISSED = 3
_MAX_VAIN_STARTS = 5  # in a row, of servers that never answered
_LONGEST_PAUSE_S = 2.0  # between two starts


class ApiServer:
    """Replays the response cache at `cache_dir` while entered. It starts at once; `url` waits until it listens.

    From then on a server that dies or hangs is started again at the same address.
    """

    def __init__(self, cache_dir: Path, root: Path, more_flags: Sequence[str] = ()) -> None:
        self._log = unnamed_file("api-server")  # a run that is killed leaves nothing behind
        launcher = root / "evaluation/toolbench/launcher/__main__.py"
        self._command = [sys.executable, str(launcher), "api", "--cache_dir", str(cache_dir), *more_flags]
        self._process = self._start(port=0)
        self._url = ""  # once it has said so
        self._is_over = threading.Event()
        self._keeper: threading.Thread | None = None

    def url(self) -> str:
        """Return where it listens. ApiError if it has ended or says nothing."""
        deadline = time.monotonic() + _START_S
        while not (url := self._url or self._announced()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ApiError(
                    f"{self.said()}\nThe offline API server did not start. Set SERVICE_URL to use another one."
                )
            time.sleep(_LOOK_EVERY_S)
        if self._keeper is None:
            self._url = url
            self._keeper = threading.Thread(target=self._keep, args=(url,), name="api-server", daemon=True)
            self._keeper.start()
        return url

    def said(self) -> str:
        """Return what it has written to its log."""
        # Not by the file's position, which is where the server writes next.
        log = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)
        return log.decode("utf-8", "replace").strip()

    def _announced(self) -> str:
        found = re.search(f"^{LISTENING}(.+?),", self.said(), re.MULTILINE)
        return found[1] if found else ""

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._is_over.set()
        if self._keeper is not None:
            self._keeper.join()
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        self._log.seek(0)
        self._log.truncate()
        return subprocess.Popen(
            [*self._command, "--port", str(port), "--exit_with_parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # not the run's: whoever reads that waits for its last holder
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is the run's to take: its last calls are still answered
        )

    def _keep(self, url: str) -> None:
        """Start the server again whenever it ends or hangs, until it is needed no more or starting comes to nothing."""
        num_vain = 0
        while (end := self._wait_for_an_end(url)) is not None:
            num_vain = 0 if end.has_answered else num_vain + 1
            if num_vain >= _MAX_VAIN_STARTS:
                logger.warning("The API server is not started again: %s", self.said().rpartition("\n")[2] or end.reason)
                return
            logger.warning("The API server is gone: %s; it is started again", end.reason)
            if num_vain and self._is_over.wait(min(0.25 * 2**num_vain, _LONGEST_PAUSE_S)):
                return
            try:
                self._process = self._start(urlsplit(url).port or 0)
            except OSError as error:  # no process, no memory or no file handle to be had: counts as a vain start
                logger.warning("The API server could not be started: %s", error)

    def _wait_for_an_end(self, url: str) -> _End | None:
        """Watch the running server until it ends; None once it is needed no more. One that hangs is ended."""
        has_answered, num_missed = False, 0
        started = asked = time.monotonic()
        while not self._is_over.wait(_LOOK_EVERY_S):
            code = self._process.poll()
            if code is not None:
                return _End(how_it_ended(code), has_answered)
            if has_answered and time.monotonic() - asked < _ASK_EVERY_S:
                continue
            if _answers(url):
                has_answered, num_missed = True, 0
            elif has_answered or self._announced():  # else it is still starting
                num_missed += 1
            asked = time.monotonic()
            if num_missed >= _MAX_MISSED or (not has_answered and asked - started > _START_S):
                self._process.kill()
                self._process.wait()
                return _End("it ran and answered nothing", has_answered)
        return None


@dataclass(frozen=True)
class _End:
    reason: str
    has_answered: bool  # before it ended


def _answers(url: str) -> bool:
    """Return whether anything is answered at `url` in a few seconds."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ANSWER_S)
    try:
        connection.request("GET", address.path)
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
