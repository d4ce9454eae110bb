"""Defines the flags that all judging commands share, and makes the judge that they and the environment name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from evaluation.toolbench.checkout import repository_root
from evaluation.toolbench.inference.command_line import positive, say, seconds
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.tooleval.judge.interface import Judge
from evaluation.toolbench.tooleval.judge.prompts import DEFAULT_EVALUATOR
from evaluation.toolbench.tooleval.judge.requests import CONSTRAINTS

ENVIRONMENT_HELP = """\
The judge's place, model and key come from the flags, else from the environment: JUDGE_URL, JUDGE_MODEL and
JUDGE_API_KEY; or OPENAI_BASE_URL (OPENAI_API_BASE), EVAL_MODEL and OPENAI_KEY (OPENAI_API_KEY); or API_POOL_FILE, a
JSON list of {"api_key", "api_base"} used in turn. Keys are written nowhere. Exit codes: 0 done, 1 some verdict is
missing, 2 could not start, 128 + signal when stopped. The same command goes on where it was stopped.
"""


def add_answer_arguments(parser: argparse._ActionsContainer) -> None:
    """Add ToolEval's flags about what is judged."""
    parser.add_argument(
        "--converted_answer_path",
        type=Path,
        required=True,
        metavar="DIR",
        help="has <model>/<set>.json of convert_to_answer_format",
    )
    parser.add_argument(
        "--test_ids", type=Path, required=True, metavar="DIR", help="has <set>.json, whose keys are the queries' ids"
    )


def add_judge_arguments(
    parser: argparse._ActionsContainer,
    *,
    max_eval_threads: int,
    evaluate_times: int | None,
    overwrite: str = "ask anew; an old log of verdicts is kept beside",
) -> None:
    """Add ToolEval's flags about judging, and ours; `overwrite` is what that flag does, for its help."""
    parser.add_argument(
        "--evaluator",
        default=DEFAULT_EVALUATOR,
        metavar="NAME",
        help="a folder of evaluators/ with the judge's prompts; fac: StableToolBench's FAC evaluator; demo: the "
        "bundled demo's own checker, without a server",
    )
    times = " (default: 4; fac and demo: 1)" if evaluate_times is None else ""
    parser.add_argument(
        "--max_eval_threads", type=positive, default=max_eval_threads, metavar="N", help="requests at once"
    )
    parser.add_argument("--evaluate_times", type=positive, default=evaluate_times, metavar="N", help=f"repeats{times}")
    parser.add_argument("--overwrite", action="store_true", help=overwrite)
    parser.add_argument(
        "--judge_url", metavar="URL", help="an OpenAI-compatible server, such as http://localhost:8000/v1"
    )
    parser.add_argument(
        "--judge_model", metavar="NAME", help="its model (default: the evaluator's, or the only one it serves)"
    )
    parser.add_argument(
        "--judge_constraint",
        default="auto",
        choices=("auto", *CONSTRAINTS),
        help="how the judge is kept to the allowed words: tool, schema, choice, text, or auto: the first of these "
        "that the server does not refuse",
    )
    parser.add_argument("--judge_timeout", type=seconds, default=600.0, metavar="S", help="longest wait for one reply")
    parser.add_argument(
        "--judge_prompts",
        type=Path,
        metavar="DIR",
        help="another checkout of ToolBench, StableToolBench or ToolGen to look for the judge's prompts in",
    )


def check_judge_arguments(options: argparse.Namespace) -> None:
    """Raise ConfigError for a folder that is absent."""
    if options.judge_prompts is not None and not options.judge_prompts.is_dir():
        raise ConfigError(f"--judge_prompts {options.judge_prompts} is not a folder")


def make_judge(options: argparse.Namespace) -> Judge:
    """Return the judge that the flags name, not opened yet. ConfigError, DataError."""
    from evaluation.toolbench.tooleval.judge.chat_judge import ChatJudge
    from evaluation.toolbench.tooleval.judge.demo_judge import DemoJudge
    from evaluation.toolbench.tooleval.judge.fac_judge import FacJudge
    from evaluation.toolbench.tooleval.judge.prompts import load_fac_prompt, load_tooleval_prompts
    from evaluation.toolbench.tooleval.judge.settings import JudgeSettings

    if options.evaluator == "demo":
        return DemoJudge(warn)
    checkouts = [*filter(None, [options.judge_prompts]), repository_root()]
    is_fac = options.evaluator == "fac"
    prompts = load_fac_prompt(checkouts) if is_fac else load_tooleval_prompts(options.evaluator, checkouts)
    settings = JudgeSettings.of(
        os.environ,
        url=options.judge_url,
        model=options.judge_model,
        constraint=None if options.judge_constraint == "auto" else options.judge_constraint,
        timeout_s=options.judge_timeout,
    )
    if prompts.note:
        warn(prompts.note)
    return FacJudge(settings, prompts, warn) if is_fac else ChatJudge(settings, prompts, warn)


def warn(message: str) -> None:
    """Say something on stderr."""
    say(f"WARNING: {message}")
