"""Tells how many queries a model solves, by a judge: `python -m evaluation.toolbench.tooleval.eval_pass_rate --help`.

ToolEval's command, flags and files, with ToolEval's number and the one over all queries side by side.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from evaluation.toolbench.inference.command_line import OneLineParser, called_as, leave, say
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.tooleval.command import INCOMPLETE, run_command
from evaluation.toolbench.tooleval.options import (
    ENVIRONMENT_HELP,
    add_answer_arguments,
    add_judge_arguments,
    check_judge_arguments,
    make_judge,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Score; return the exit code that `--help` explains."""
    options = make_parser().parse_args(argv)
    return run_command(lambda stop: _score_sets(options, stop))


async def _score_sets(options: argparse.Namespace, stop: threading.Event) -> int:
    # After the arguments: --help answers at once.
    from evaluation.toolbench.tooleval.asking import Asking
    from evaluation.toolbench.tooleval.pass_rate import UNDECIDED
    from evaluation.toolbench.tooleval.pass_rate_run import PassRateRun
    from evaluation.toolbench.tooleval.test_sets import read_test_set

    check_judge_arguments(options)
    if not options.reference_model:
        raise ConfigError("--reference_model is missing: it names the model to score, a folder of converted answers")
    sets = [  # all of them, before anything is paid for
        read_test_set(options.converted_answer_path / options.reference_model, options.test_ids, name)
        for name in options.test_set
    ]
    judge = make_judge(options)
    run = PassRateRun(
        judge,
        Asking(options.max_eval_threads, stop),
        model=options.reference_model,
        folder=options.save_path,
        num_repeats=options.evaluate_times or judge.default_repeats,
        overwrite=options.overwrite,
    )
    code = 0
    try:
        await judge.open()
        for name, (answers, ids) in zip(options.test_set, sets, strict=True):
            scored = await run.score(name, answers, ids)
            say("\n".join(scored.lines()), sys.stdout)
            if scored.ids_of(UNDECIDED):
                code = INCOMPLETE
    finally:
        await judge.close()
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the flags: ToolEval's, and ours."""
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.tooleval.eval_pass_rate"),
        description="Tell how many queries of a set a model solves, by a judge.",
        examples="JUDGE_URL=http://localhost:8000/v1 toolgen pass_rate --reference_model ToolGen-Llama-3-8B "
        "--test_set G3_instruction "
        "--converted_answer_path data/model_predictions_converted --test_ids data/solvable_queries/test_query_ids",
        epilog=ENVIRONMENT_HELP,
    )
    add_answer_arguments(parser)
    parser.add_argument("--reference_model", default="", metavar="NAME", help="the model that is scored")
    parser.add_argument(
        "--save_path", type=Path, default=Path(), metavar="DIR", help="folder for the results; made if needed"
    )
    parser.add_argument(
        "--test_set",
        nargs="+",
        default=["G1_instruction"],
        metavar="SET",
        help="one or more query sets (default: G1_instruction)",
    )
    add_judge_arguments(parser, max_eval_threads=30, evaluate_times=None)
    return parser


if __name__ == "__main__":
    leave(main())
