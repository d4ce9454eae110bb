"""Tells which of two models answers better, by a judge.

    python -m evaluation.toolbench.tooleval.eval_preference --help

ToolEval's command, flags and files.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from evaluation.toolbench.inference.command_line import OneLineParser, called_as, leave, say
from evaluation.toolbench.inference.Downstream_tasks.query_sets import SETS
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
    """Compare; return the exit code that `--help` explains."""
    options = make_parser().parse_args(argv)
    return run_command(lambda stop: _compare_sets(options, stop))


async def _compare_sets(options: argparse.Namespace, stop: threading.Event) -> int:
    # After the arguments: --help answers at once.
    from evaluation.toolbench.tooleval.asking import Asking
    from evaluation.toolbench.tooleval.preference import SIDES
    from evaluation.toolbench.tooleval.preference_files import read_pass_rate_statuses
    from evaluation.toolbench.tooleval.preference_run import PreferenceRun
    from evaluation.toolbench.tooleval.test_sets import read_test_set

    check_judge_arguments(options)
    names = dict(zip(SIDES, (options.reference_model, options.output_model), strict=True))
    if options.reference_model == options.output_model:
        raise ConfigError(f"--reference_model and --output_model are both {options.output_model}: name two models")
    inputs = []  # all of them, before anything is paid for
    for test_set in options.test_set:
        sets = {
            side: read_test_set(options.converted_answer_path / name, options.test_ids, test_set)
            for side, name in names.items()
        }
        statuses = None
        if options.use_pass_rate == "true":
            folder = options.pass_rate_result_path
            statuses = {side: read_pass_rate_statuses(folder, test_set, name) for side, name in names.items()}
        inputs.append(({side: answers for side, (answers, _) in sets.items()}, sets["reference"][1], statuses))
    judge = make_judge(options)
    run = PreferenceRun(
        judge,
        Asking(options.max_eval_threads, stop),
        names=names,
        folder=options.save_path,
        num_rounds=options.evaluate_times,
        overwrite=options.overwrite,
    )
    code = 0
    try:
        await judge.open()
        for test_set, (answers, ids, statuses) in zip(options.test_set, inputs, strict=True):
            compared = await run.compare(test_set, answers, ids, statuses)
            say("\n".join(compared.lines()), sys.stdout)
            if compared.undecided:
                code = INCOMPLETE
    finally:
        await judge.close()
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the flags: ToolEval's, and ours."""
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.tooleval.eval_preference"),
        description="Tell which of two models answers the queries of a set better, by a judge.",
        examples="JUDGE_URL=http://localhost:8000/v1 toolgen preference --reference_model A --output_model B "
        "--converted_answer_path data/model_predictions_converted --test_ids data/solvable_queries/test_query_ids "
        "--pass_rate_result_path data/results/pass_rate --test_set G3_instruction",
        epilog=ENVIRONMENT_HELP,
    )
    add_answer_arguments(parser)
    parser.add_argument(
        "--reference_model", default="gpt-4-0613_dfs", metavar="NAME", help="the model that it is compared with"
    )
    parser.add_argument(
        "--output_model", default="toolllama-2-0830-thought", metavar="NAME", help="the candidate, whose win rate it is"
    )
    parser.add_argument(
        "--save_path", type=Path, default=Path("preference_results"), metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "--pass_rate_result_path",
        type=Path,
        default=Path("pass_rate_results"),
        metavar="DIR",
        help="has <model>/<set>_<model>.json of eval_pass_rate",
    )
    parser.add_argument(
        "--use_pass_rate",
        default="false",
        metavar="BOOL",
        help="true: an answer's status is the majority of its pass-rate verdicts; anything else: the judge is asked "
        "for it in each round",
    )
    parser.add_argument(
        "--test_set", nargs="+", default=list(SETS), metavar="SET", help="query sets (default: all six)"
    )
    add_judge_arguments(parser, max_eval_threads=3, evaluate_times=2)
    return parser


if __name__ == "__main__":
    leave(main())
