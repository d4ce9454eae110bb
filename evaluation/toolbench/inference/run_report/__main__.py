"""Runs the report's command line: `python -m evaluation.toolbench.inference.run_report --help`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.toolbench.inference.command_line import OneLineParser, called_as, leave, say
from evaluation.toolbench.inference.errors import ConfigError, ToolGenError

REPORT_FILE = "report.html"
COMPARISON_FILE = "comparison.html"

_EXAMPLES = """
toolgen report outputs/demo/demo_queries
toolgen report data/answer/ToolGen-Llama-3-8B/G3_instruction --output ~/g3.html
toolgen report data/answer/ToolGen-Llama-3-8B
toolgen report data/answer/ToolGen-Llama-3-8B data/answer/my-checkpoint --output ~/both.html
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when the report is written (its path is printed), 2 when it could not be made."""
    arguments = make_parser().parse_args(argv)
    try:
        if len(arguments.answer_folders) > 1:
            from evaluation.toolbench.inference.run_report.comparison import write_comparison

            path = write_comparison(arguments.answer_folders, arguments.output, arguments.scores)
        elif arguments.scores:
            raise ConfigError("--scores is for a comparison, and one folder is given: name the folders of two runs")
        else:
            from evaluation.toolbench.inference.run_report.report import write_report

            path = write_report(arguments.answer_folders[0], arguments.output)
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK") == "1":
            raise
        say(error)
        return error.exit_code
    say(path, sys.stdout)
    return 0


def make_parser() -> OneLineParser:
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.inference.run_report"),
        examples=_EXAMPLES,
        description="Make one self-contained HTML page of a folder of answers: a summary, timelines, and every "
        "query's trajectory. It opens from disk and loads nothing. Folders without events or run.json, of an older "
        "version or of another program, give a page without timelines. Of a folder of such "
        "folders, make a table with a row for each.\n\nOf two or more folders, make a page that "
        "compares them: tests over the queries that they have in common, each query's trajectories side by side, and "
        "what judges said of the answers.",
    )
    parser.add_argument(
        "answer_folders",
        type=Path,
        nargs="+",
        metavar="ANSWER_FOLDER",
        help="folder of <id>_<method>.json files; two or more are compared, then also folders above several sets",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"where to write it (default: {REPORT_FILE}, of a comparison {COMPARISON_FILE}, in the first folder)",
    )
    parser.add_argument(
        "--scores",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="of a comparison: what eval_pass_rate had as --save_path, one folder for all runs or one for each "
        "(default: looked for beside the answers and in ../../results/pass_rate)",
    )
    return parser


if __name__ == "__main__":
    leave(main())
