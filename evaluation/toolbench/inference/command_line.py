"""Holds what the programs' command lines share: types of flags, mistakes in one line, how a program ends."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import logging
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from evaluation.toolbench.inference.errors import ConfigError, ToolGenError
from evaluation.toolbench.inference.process_watch import when_process_ends

AUTO = "auto"
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAUNCHER = "toolgen"
_MANY_FILES = 65_536
_READER_GONE = 141  # as a shell reports a program that wrote to a closed pipe


def launcher_name() -> str:
    """Return how the launcher is called here: by its script, or by its name where it is installed without scripts."""
    script = "scripts/toolgen.sh"
    return f"bash {script}" if (Path(__file__).parents[3] / script).is_file() else _LAUNCHER


def called_as(otherwise: str) -> str:
    """Return the words by which this program was started, for its usage line: the launcher's, else `otherwise`."""
    return sys.argv[0] if sys.argv[0].startswith(f"{_LAUNCHER} ") else otherwise


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the flag that was probably meant, and shows examples to be copied."""

    def __init__(self, *, examples: str = "", epilog: str = "", **options: Any) -> None:
        """Make a parser; `examples` are lines that call the launcher `toolgen`."""
        lines = examples.strip().replace(f"{_LAUNCHER} ", f"{launcher_name()} ").splitlines()
        shown = "\n".join(["examples:", *(f"  {line}".rstrip() for line in lines)]) if lines else ""
        options = {"formatter_class": HelpFormatter, **options}
        super().__init__(epilog="\n\n".join(filter(None, (shown, epilog))), **options)

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}{self._guess(message)} (--help lists all flags)", file=sys.stderr)
        raise SystemExit(ConfigError.exit_code)

    def _guess(self, message: str) -> str:
        unknown = [word for word in message.partition("unrecognized arguments: ")[2].split() if word.startswith("--")]
        known = self._option_string_actions
        near = difflib.get_close_matches(unknown[0].partition("=")[0], known, 1) if unknown else []
        return f"; did you mean {near[0]}?" if near else ""


class HelpFormatter(argparse.HelpFormatter):
    """Keeps paragraphs and indented lines as they are, and shows defaults that say something and are not named yet."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            block
            if re.search(r"^  ", block, re.MULTILINE)
            else super(HelpFormatter, self)._fill_text(block, width, indent)
            for block in text.split("\n\n")
        )

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "", False, argparse.SUPPRESS) or "default" in (action.help or ""):
            return action.help
        return f"{action.help or ''} (default: %(default)s)".strip()


def positive(text: str) -> int:
    return _at_least(1, text)


def not_negative(text: str) -> int:
    return _at_least(0, text)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def auto_or_positive(text: str) -> int | str:
    return AUTO if text == AUTO else _at_least(1, text, f"{AUTO} or ")


def text_or_none(text: str) -> str | None:
    """Return None for an empty text, which scripts pass for a variable that is not set."""
    return text.strip() or None


def run_program(program: Callable[[], int]) -> int:
    """Run a program whose log goes to stderr; its exit code, also where an error or a signal ends it.

    A ToolGenError is printed as one line, or raised where TOOLGEN_TRACEBACK=1 asks for it.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[_StderrHandler()])
    open_many_files()
    try:
        return program()
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK") == "1":
            raise
        say(error)
        return error.exit_code
    except KeyboardInterrupt:  # before the first query; from then on the run takes the signals
        return 128 + signal.SIGINT


def open_many_files() -> None:
    """Let this process, and those it starts, have more files open than the usual 1,024.

    Connections are files, and many replicas have more conversations than that, each with one to the API server.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system with a lower limit that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def say(line: object, stream: TextIO | None = None) -> None:
    """Print a line for a person on stderr, or on `stream`. Where it cannot be written nobody reads it, which ends no
    program. Characters that the stream cannot carry are escaped.
    """
    stream = stream or sys.stderr
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError):
        print(str(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def show(program: Callable[[], int]) -> int:
    """Run a program that shows its results on stdout; its exit code, also where they are not read to their end."""
    try:
        code = program()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    return code


@contextlib.contextmanager
def signals_taken_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have `handler` called for the signals that are to end this process while this is entered.

    Those that were ignored before stay ignored: nohup does that, and a shell for jobs in the background. Outside the
    main thread, which alone can take signals, nothing changes.
    """
    signals = ENDING_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    taken = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def end_at_once(number: int, _frame: FrameType | None) -> NoReturn:
    """End this process, as a handler of signal `number` that raises nothing.

    An exception would come up wherever the process is: in an import of numpy, say, whose callers swallow it and go on
    with half a library.
    """
    os._exit(128 + number)


def end_with(process_id: int | None) -> None:
    """Stop this process as a signal would, once that one has ended; without effect for None."""
    if process_id is not None:
        when_process_ends(process_id, lambda: os.kill(os.getpid(), signal.SIGTERM))


def leave(exit_code: int) -> NoReturn:
    """End the process without waiting for threads: a run that was cut short may have left some in a generation."""
    is_all_told = True
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # a full disk, a closed terminal: an end in order would try again, and fail for it
            is_all_told = False
    if exit_code or not is_all_told:
        os._exit(exit_code)
    sys.exit()


class _StderrHandler(logging.Handler):
    """Writes to what sys.stderr is at that moment, so that lines go above the progress bar and not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:  # a terminal that was closed does not have to end a run
            self.handleError(record)


def _at_least(least: int, text: str, or_else: str = "") -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not {or_else}a number of at least {least}")
    return value
