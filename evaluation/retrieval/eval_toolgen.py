"""Evaluates which tools a model names for queries. `--help` explains every flag.

python -m evaluation.retrieval.eval_toolgen --model_name_or_path PATH --stage G1 --split instruction ...
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(1, str(ROOT))

from evaluation.toolbench.inference.command_line import end_with, leave, run_program  # noqa: E402
from evaluation.toolbench.retrieval.options import parse_options  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return the exit code that `--help` explains."""
    return run_program(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    config = parse_options(argv)
    end_with(config.run.exit_with_parent)

    # After the arguments: --help and mistakes in them answer at once.
    from evaluation.toolbench.retrieval.run import run

    return run(config)


if __name__ == "__main__":
    leave(main())
