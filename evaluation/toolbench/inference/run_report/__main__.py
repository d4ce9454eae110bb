"""Command line of the report: `python -m evaluation.toolbench.inference.run_report --help`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.toolbench.inference.command_line import OneLineParser, called_as
from evaluation.toolbench.inference.errors import ToolGenError

REPORT_FILE = "report.html"

_EXAMPLES = """
toolgen report outputs/demo/demo_queries
toolgen report data/answer/ToolGen-Llama-3-8B/G3_instruction --output ~/g3.html
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when the report is written (its path is printed), 2 when it could not be made."""
    arguments = make_parser().parse_args(argv)
    try:
        from evaluation.toolbench.inference.run_report.report import write_report

        path = write_report(arguments.answer_folder, arguments.output)
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK") == "1":
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    print(path)
    return 0


def make_parser() -> OneLineParser:
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.inference.run_report"),
        examples=_EXAMPLES,
        description="Make one self-contained HTML page of a folder of answers: a summary, timelines, and every "
        "query's trajectory. It opens from disk and loads nothing. Folders without events or run.json, of an older "
        "version or of another program, give a page without timelines.",
    )
    parser.add_argument("answer_folder", type=Path, metavar="ANSWER_FOLDER", help="folder of <id>_<method>.json files")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"where to write it (default: {REPORT_FILE} in that folder)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
