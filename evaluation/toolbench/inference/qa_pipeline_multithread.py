"""Runs a model over a file of queries. `--help` explains every flag.

Started as a script from anywhere: Python puts this folder on the path, which modules of a ToolGen checkout
rely on, and the repository's root is put behind it here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(1, str(ROOT))

from evaluation.toolbench.inference.Downstream_tasks.options import parse_options  # noqa: E402
from evaluation.toolbench.inference.errors import ToolGenError  # noqa: E402
from evaluation.toolbench.inference.process_watch import when_process_ends  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code that `--help` explains."""
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[_StderrHandler()])
    try:
        options = parse_options(argv)
        if options.exit_with_parent is not None:
            when_process_ends(options.exit_with_parent, lambda: os.kill(os.getpid(), signal.SIGTERM))

        # After the arguments: --help and mistakes in them answer at once.
        from evaluation.toolbench.inference.Downstream_tasks.rapidapi_multithread import pipeline_runner

        runner = pipeline_runner(options, add_retrieval=bool(options.retrieval_model_path), check_first=True)
        return runner.run().exit_code
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK") == "1":
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # before the first query; from then on the run takes the signals
        return 128 + signal.SIGINT


class _StderrHandler(logging.Handler):
    """Writes to what sys.stderr is at that moment, so that lines go above the progress bar and not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:  # a terminal that was closed is no reason to end a run
            self.handleError(record)


def _leave(exit_code: int) -> NoReturn:
    """End the process without waiting for threads: a run that was cut short may have left some in a generation."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # a full disk, a closed terminal, no stream at all
            stream.flush()
    if exit_code:
        os._exit(exit_code)
    sys.exit()


if __name__ == "__main__":
    _leave(main())
