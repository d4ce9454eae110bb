"""Runs `toolgen run`: the pipeline with the environment's settings and an API server, checkpoint by checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from evaluation.toolbench.inference.command_line import called_as, end_at_once, launcher_name, say, signals_taken_by
from evaluation.toolbench.inference.Downstream_tasks.options import make_parser as make_pipeline_parser
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
from evaluation.toolbench.inference.Downstream_tasks.query_sets import ALL, SETS
from evaluation.toolbench.inference.errors import ConfigError, ToolGenError
from evaluation.toolbench.launcher.api_server import ApiServer
from evaluation.toolbench.launcher.run_settings import (
    DEFAULT_SERVICE_URL,
    VARIABLES,
    RunSettings,
    no_such_sets,
    one_checkpoint_each,
    pipeline_flags,
    settings_of,
    words,
)

ROOT = Path(__file__).resolve().parents[3]
INFERENCE = ROOT / "evaluation/toolbench/inference"

# What help shows as the default where this command passes something else than the pipeline's own.
SHOWN_DEFAULTS = {
    "backbone_model": "toolgen_atomic",
    "model_path": None,  # the variable's line tells which
    "function_provider": "all",
    "num_thread": "auto",
    "num_replicas": "auto",
}
_EXAMPLES = """
examples:
  {run}                                    # the demo, or the data/ of the ToolGen checkout around this tree
  {run} --limit 5                          # its first five queries
  {run} --dry_run                          # checks everything that the run needs, runs nothing
  {run} --sets all                         # the six sets of the paper in one run: the model is loaded once
  MODEL_PATH=/models/ToolGen-Llama-3-8B CUDA_VISIBLE_DEVICES=0,1,2 {run}
  METHOD=DFS_woFilter_w2 OUTPUT_DIR=data/answer/dfs {run}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the variables and flags ask for; the pipeline's exit code, the worst of several checkpoints'."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(arguments):
        make_parser().parse_args(["--help"])
    try:
        environments = one_checkpoint_each(os.environ, ROOT)
        for environment in environments:
            settings = settings_of(environment, ROOT)
            sets, flags = sets_of(arguments, settings)
            parse_options([*pipeline_flags(settings, environment, sets), *flags])
        if len(environments) > 1:
            return _one_after_another(environments, arguments)
        return _run(settings, sets, flags)
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK") == "1":
            raise
        say(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def make_parser() -> argparse.ArgumentParser:
    """Return the pipeline's flags and this command's, with the environment's variables."""
    parser = make_pipeline_parser()
    parser.prog = called_as("toolgen run")
    parser.set_defaults(**SHOWN_DEFAULTS)
    _add_sets(parser.add_argument_group("sets"))
    run = f"{launcher_name()} run"
    variables = f"environment variables, of which flags of the same meaning win:\n{VARIABLES.rstrip()}"
    parser.epilog = "\n\n".join((_EXAMPLES.strip("\n").format(run=run), variables, str(parser.epilog)))
    return parser


def _add_sets(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--sets",
        metavar="NAMES",
        help="sets of queries, separated by commas, instead of those of $STAGE and $GROUP; all: the six of the paper",
    )


def sets_of(arguments: Sequence[str], settings: RunSettings) -> tuple[list[str], list[str]]:
    """Return (the sets to run, the other arguments). ConfigError for a set without a query file."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_sets(parser)
    known, others = parser.parse_known_args(arguments)
    if known.sets is None:
        return list(settings.query_sets), others
    sets = list(SETS) if known.sets == ALL else words(known.sets)
    folder = settings.query_folder
    missing = [name for name in sets if not (folder / f"{name}.json").is_file()]
    if missing or not sets:
        raise no_such_sets(f"--sets {known.sets}", missing, folder)
    return sets, others


def _run(settings: RunSettings, sets: Sequence[str], flags: Sequence[str]) -> int:
    """Run one checkpoint, in this process."""
    if settings.is_demo:
        say("No data/ folder and no other MODEL_PATH: running the bundled demo.")
    with signals_taken_by(end_at_once), ExitStack() as stack:  # until the pipeline takes them
        options = parse_options([*pipeline_flags(settings, os.environ, sets), *flags])
        server = _api_server(settings, options.tool_root_dir)
        if server is not None:
            stack.enter_context(server)
        _print_banner()
        if server is not None:
            os.environ["SERVICE_URL"] = server.url()
        # As if the pipeline had been started as a script, on which modules of a ToolGen checkout rely.
        sys.path[:1] = [str(INFERENCE), str(ROOT)]
        from evaluation.toolbench.inference import qa_pipeline_multithread

        return qa_pipeline_multithread.main([*pipeline_flags(settings, os.environ, sets), *flags])


def _api_server(settings: RunSettings, tools_dir: str) -> ApiServer | None:
    """Offer the offline server where none is named; then $SERVICE_URL is set."""
    simulator = os.environ.get("SIMULATOR_URL")
    if os.environ.get("SERVICE_URL"):
        if simulator:
            raise ConfigError(
                "SIMULATOR_URL is for the API server that a run starts, and SERVICE_URL names another: unset one of "
                "them, or start that server with --simulator_url"
            )
        return None
    cache_dir = Path(os.environ.get("API_CACHE_DIR") or settings.data_dir / "tool_response_cache")
    if not (os.environ.get("API_CACHE_DIR") or simulator or cache_dir.is_dir()):
        os.environ["SERVICE_URL"] = DEFAULT_SERVICE_URL
        say(
            f"No response cache at {cache_dir}: using the API server at {DEFAULT_SERVICE_URL}. Set SERVICE_URL to "
            "another one, or API_CACHE_DIR to a StableToolBench tool_response_cache folder."
        )
        return None
    return ApiServer(cache_dir, ROOT, _simulator_flags(settings, tools_dir) if simulator else ())


def _simulator_flags(settings: RunSettings, tools_dir: str) -> list[str]:
    """Tell where the APIs' documentation is and the replies go; the rest is in the environment."""
    flags = ["--tools_dir", tools_dir]
    if settings.is_demo and not os.environ.get("SIMULATED_DIR"):  # its cache is part of the package
        flags += ["--simulated_dir", str(settings.output_dir.parent / "simulated_replies")]
    return flags


def _print_banner() -> None:
    from evaluation.toolbench.inference.multi_gpu.banner import banner

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these characters must not stop a run
    with contextlib.suppress(OSError):  # a pipe that nobody reads, a full disk
        print(banner(), flush=True)


def _one_after_another(environments: Sequence[Mapping[str, str]], arguments: Sequence[str]) -> int:
    """Run every checkpoint in a process of its own, so that what one leaves on the GPUs is gone before the next."""
    worst = 0
    program = [sys.executable, str(sys.modules["__main__"].__file__), "run", *arguments]
    for number, environment in enumerate(environments, 1):
        say(f"== {environment['MODEL_PATH']} ({number} of {len(environments)})")
        code = run_process(program, environment)
        if code > 128:  # stopped by a person
            return code
        worst = max(worst, code)
    _report_on(Path(environments[0]["OUTPUT_DIR"]).parent)
    return worst


def _report_on(above: Path) -> None:
    """Put the checkpoints' sets into one table."""
    from evaluation.toolbench.inference.run_report.report import write_report

    try:
        print(f"Report: {write_report(above)}")
    except ToolGenError as error:  # where no checkpoint has an answer; each has said why
        say(error)


def run_process(command: Sequence[str], environment: Mapping[str, str]) -> int:
    # In a session of its own, Ctrl-C reaches it once: from here.
    process = subprocess.Popen(command, env=environment, start_new_session=True)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    with signals_taken_by(pass_on):
        code = process.wait()
    return code if code >= 0 else 128 - code
