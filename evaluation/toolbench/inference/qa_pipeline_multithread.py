"""Runs a model over a file of queries. `--help` explains every flag.

Started as a script from anywhere: Python puts this folder on the path, which modules of a ToolGen checkout
rely on, and the repository's root is put behind it here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(1, str(ROOT))

from evaluation.toolbench.inference.command_line import end_with, leave, run_program, show  # noqa: E402
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return the exit code that `--help` explains."""
    return run_program(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = parse_options(argv)
    end_with(options.exit_with_parent)
    if options.dry_run:
        from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
        from evaluation.toolbench.inference.Downstream_tasks.preflight import print_preflight

        return show(lambda: print_preflight(RunConfig.of(options)))

    # After the arguments: --help and mistakes in them answer at once.
    from evaluation.toolbench.inference.Downstream_tasks.rapidapi_multithread import pipeline_runner

    runner = pipeline_runner(options, add_retrieval=bool(options.retrieval_model_path), check_first=True)
    return runner.run().exit_code


if __name__ == "__main__":
    leave(main())
