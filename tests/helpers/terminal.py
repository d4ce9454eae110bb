"""A real pseudo-terminal for a child process, and what its screen shows in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HIDE_CURSOR = b"\x1b[?25l"

_TOKEN = re.compile(r"\x1b\[(?P<numbers>[?\d;]*)(?P<command>[A-Za-z])|(?P<text>[^\x1b\r\n]+)|(?P<control>[\r\n])")


def run_on_terminal(
    program: str,
    *,
    width: int = 100,
    height: int = 40,
    environment: dict[str, str] | None = None,
    stdout: int | None = None,
    timeout_s: float = 300,
    closed_after: bytes | None = None,
    while_running: Callable[[subprocess.Popen[bytes], bytes], None] | None = None,
) -> tuple[int, bytes]:
    """Run a Python program whose terminal is `width` columns wide: its exit status, and all bytes it wrote there.

    `stdout` is a file for the standard output instead of the terminal, which is closed once `closed_after` was
    written. `while_running` is told whenever something was written.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    unset = ("NO_COLOR", "CI", "COLUMNS", "LINES", "FORCE_COLOR")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", **(environment or {})},
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            readable, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"the program is still running after {timeout_s} s: {written[-2000:]!r}"
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # nobody has the other side open any more
                break
            if not chunk:
                break
            written += chunk
            if while_running:
                while_running(process, written)
            if closed_after is not None and closed_after in written:
                break
        os.close(ours)
        return process.wait(300), written
    finally:
        process.kill()
        process.wait()


def screen(written: bytes) -> list[str]:
    """The lines that a terminal of endless height shows after `written`; colours are left out."""
    lines, row, column = [""], 0, 0
    for token in _TOKEN.finditer(written.decode()):
        if token["text"]:
            text = token["text"]
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
        elif token["control"] == "\r":
            column = 0
        elif token["control"]:
            row += 1
            lines += [""] * (row == len(lines))
        elif token["command"] == "A":
            row -= int(token["numbers"] or 1)
            assert row >= 0
        elif token["command"] == "K":
            assert token["numbers"] == "2"
            lines[row] = ""
        else:
            assert token["command"] in "mhl", token.group()
    return [line.rstrip() for line in lines]
