"""Runs `toolgen evaluate`: the run, conversion, judging and one table. Each step goes on where an earlier one ended."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.command_line import called_as, launcher_name, run_program, say
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.launcher.judge import JudgeServer
from evaluation.toolbench.launcher.run import ROOT, VARIABLES, run_process, sets_of
from evaluation.toolbench.launcher.run import make_parser as make_run_parser
from evaluation.toolbench.launcher.run_settings import (
    RunSettings,
    one_checkpoint_each,
    pipeline_flags,
    settings_of,
)
from evaluation.toolbench.tooleval.judge.prompts import DEFAULT_EVALUATOR
from evaluation.toolbench.tooleval.options import (
    ENVIRONMENT_HELP,
    add_judge_arguments,
    check_judge_arguments,
    make_judge,
)

if TYPE_CHECKING:
    from evaluation.toolbench.tooleval.evaluation_table import EvaluationRow

_INCOMPLETE = 1
_EXAMPLES = """
examples:
  {evaluate}                               # the demo, judged by its own checker
  STAGE=all JUDGE_URL=http://HOST:8000/v1 {evaluate}
  STAGE=all JUDGE_PATH=/models/judge {evaluate}   # served on the same GPUs when the run is over
  MODEL_PATH=/models/a,/models/b METHOD="CoT@1 DFS_woFilter_w2" {evaluate} --sets G1_tool,G3_instruction
"""


@dataclass(frozen=True)
class _Part:
    """Names one set of queries of one checkpoint, by one method."""

    name: str  # of the model and the method: ToolEval's "model"
    model: str
    query_set: str
    method: str
    answers: Path
    query_ids: Sequence[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate what the variables and flags ask for; return the exit code that `--help` explains."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(arguments):
        make_parser().parse_args(["--help"])
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_own(own)
    options, for_run = own.parse_known_args(arguments)
    if options.overwrite:
        for_run.append("--overwrite")
    code = run_program(lambda: _prepare(options, for_run))
    if code:
        return code
    program = [sys.executable, str(sys.modules["__main__"].__file__), "run", *for_run]
    run_code = run_process(program, os.environ)  # the GPUs are free again when it ends, for a judge
    if run_code > _INCOMPLETE:
        return run_code
    from evaluation.toolbench.tooleval.command import run_command

    def score() -> int:
        return run_command(lambda stop: _score(options, for_run, stop))

    return (run_program(lambda: _beside_judge(score)) if _is_to_serve(options) else score()) or run_code


def _beside_judge(score: Callable[[], int]) -> int:
    """Score with the judge at $JUDGE_PATH, on the GPUs that the run has given back."""
    with JudgeServer(os.environ["JUDGE_PATH"]) as server:
        os.environ.update(server.variables)
        return score()


def _is_to_serve(options: argparse.Namespace) -> bool:
    return bool(os.environ.get("JUDGE_PATH")) and not (options.judge_url or os.environ.get("JUDGE_URL"))


def make_parser() -> argparse.ArgumentParser:
    """Make a parser with the flags of `run` and of judging."""
    parser = make_run_parser()
    parser.prog = called_as("toolgen evaluate")
    parser.description = (
        "Run a model over sets of queries, convert its answers, have them judged, and print one table. What is done is "
        "not done again."
    )
    examples = _EXAMPLES.strip("\n").format(evaluate=f"{launcher_name()} evaluate")
    variables = f"environment variables, of which flags of the same meaning win:\n{VARIABLES.rstrip()}"
    parser.epilog = "\n\n".join((examples, variables, ENVIRONMENT_HELP.strip()))
    _add_own(parser.add_argument_group("judging", conflict_handler="resolve"))  # --overwrite holds for both
    return parser


def _add_own(group: argparse._ActionsContainer) -> None:
    add_judge_arguments(
        group,
        max_eval_threads=30,
        evaluate_times=None,
        overwrite="run and ask anew: answers of these methods to these queries are removed first; an old log of "
        "verdicts is kept beside",
    )
    group.set_defaults(evaluator="")
    group.add_argument(
        "--results", type=Path, metavar="DIR", help="folder for scores and tables (default: beside the answers)"
    )


def _prepare(options: argparse.Namespace, for_run: Sequence[str]) -> int:
    """Refuse what cannot be scored before anything is run."""
    settings = settings_of(one_checkpoint_each(os.environ, ROOT)[0], ROOT)
    if not options.evaluator:
        options.evaluator = DEFAULT_EVALUATOR if _names_judge(options) else "demo" if settings.is_demo else ""
    check_judge_arguments(options)
    if options.evaluator and not _is_to_serve(options):
        make_judge(options)
    elif options.evaluator:
        say(f"The judge will be {os.environ['JUDGE_PATH']}, on the GPUs of the run after it.")
    else:
        say("No judge is named (JUDGE_URL, --evaluator): the table will be without solved queries.")
    _parts(for_run)
    return 0


def _names_judge(options: argparse.Namespace) -> bool:
    names = (
        "JUDGE_URL",
        "JUDGE_PATH",
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "OPENAI_KEY",
        "OPENAI_API_KEY",
        "API_POOL_FILE",
    )
    return bool(options.judge_url or any(os.environ.get(name) for name in names))


def _parts(for_run: Sequence[str]) -> list[_Part]:
    """Return everything that is evaluated, in the table's order. ConfigError, DataError."""
    from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
    from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
    from evaluation.toolbench.inference.Downstream_tasks.query_sets import read_query_sets
    from evaluation.toolbench.inference.records.queries import read_replacements

    parts = []
    for environment in one_checkpoint_each(os.environ, ROOT):
        settings = settings_of(environment, ROOT)
        sets, flags = sets_of(for_run, settings)
        config = RunConfig.of(parse_options([*pipeline_flags(settings, environment, sets), *flags]))
        if config.dry_run or config.part is not None:
            raise ConfigError("evaluate has no --dry_run and no --shard: use `run` for these, then evaluate")
        model = settings.output_dir.name
        for each in read_query_sets(config, read_replacements(config.replace_file)):
            place = each.place
            parts.append(
                _Part(
                    f"{model}_{place.method}",
                    model,
                    Path(place.query_file).stem,
                    place.method,
                    Path(place.answer_folder),
                    [query.query_id for query in each.queries],
                )
            )
    return parts


async def _score(options: argparse.Namespace, for_run: Sequence[str], stop: threading.Event) -> int:
    from evaluation.toolbench.inference.run_report.set_figures import SetFigures, set_figures
    from evaluation.toolbench.tooleval.asking import Asking
    from evaluation.toolbench.tooleval.convert_to_answer_format import convert_files, find_answers, write_converted
    from evaluation.toolbench.tooleval.converted import read_converted
    from evaluation.toolbench.tooleval.evaluation_table import EvaluationRow
    from evaluation.toolbench.tooleval.pass_rate import UNDECIDED
    from evaluation.toolbench.tooleval.pass_rate_run import PassRateRun

    parts = _parts(for_run)
    settings = settings_of(one_checkpoint_each(os.environ, ROOT)[0], ROOT)
    results = options.results or _results_beside(settings)
    judge = make_judge(options) if options.evaluator else None
    rows, code = [], 0
    try:
        if judge:
            await judge.open()
        for part in parts:
            found = {each.method: each for each in set_figures(part.answers)} if part.answers.is_dir() else {}
            figures = found.get(part.method, SetFigures(part.answers, part.method, queries=len(part.query_ids)))
            rate = None
            if judge and (figures.answered or figures.gave_up or figures.no_answer):
                paths = find_answers(part.answers, part.method)
                converted, problems = convert_files(paths, part.method)
                for problem in problems:
                    say(problem)
                    code = _INCOMPLETE
                path = results / "converted" / part.name / f"{part.query_set}.json"
                write_converted(path, converted)
                scored = await PassRateRun(
                    judge,
                    Asking(options.max_eval_threads, stop),
                    model=part.name,
                    folder=results / "pass_rate" / part.name,
                    num_repeats=options.evaluate_times or judge.default_repeats,
                    overwrite=options.overwrite,
                ).score(part.query_set, read_converted(path), part.query_ids)
                rate = scored.rate
                if scored.ids_of(UNDECIDED):
                    code = _INCOMPLETE
            rows.append(EvaluationRow(part.model, part.query_set, figures, rate))
    finally:
        if judge:
            await judge.close()
    _write_tables(results, rows)
    return code


def _results_beside(settings: RunSettings) -> Path:
    """Return where ToolGen's own scripts have them in a checkout; else beside the folders of answers."""
    if (ROOT / "data").is_dir() and not os.environ.get("OUTPUT_DIR"):
        return ROOT / "data/results"
    return settings.output_dir.parent / "results"


def _write_tables(results: Path, rows: Sequence[EvaluationRow]) -> None:
    from rich.console import Console

    from evaluation.toolbench.inference.records.answers import output_errors
    from evaluation.toolbench.inference.records.whole_files import write_whole
    from evaluation.toolbench.tooleval import evaluation_table as tables

    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 190)
    with console.capture() as capture:
        console.print(tables.as_rich(rows), no_wrap=True)
    texts = {
        "txt": capture.get(),
        "md": tables.as_markdown(rows),
        "csv": tables.as_csv(rows),
        "tex": tables.as_latex(rows),
    }
    with output_errors(results, "--results"):
        results.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            write_whole(results / f"table.{ending}", text)
    with contextlib.suppress(OSError, SystemExit):  # which rich raises where nobody reads
        console.print(tables.as_rich(rows))
    say(f"Tables: {results / 'table.md'}, .csv, .tex, .txt", sys.stdout)
