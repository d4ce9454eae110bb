"""Lists the commands there are, and knows the way to them."""

from __future__ import annotations

import difflib
import os
import platform
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, NoReturn

from evaluation.toolbench.inference.command_line import launcher_name, leave
from evaluation.toolbench.launcher import VERSION

# What `--first_look` exits with where there is nothing to say before the packages are installed.
READY = 75
FIRST_LOOK = "--first_look"
_PACKAGES = ("torch", "transformers")
_USAGE_ERROR = 2


@dataclass(frozen=True)
class Command:
    """`parser` and `main` are functions as "module:name"; making the parser imports no package."""

    name: str
    summary: str
    parser: str
    main: str

    def make_parser(self) -> Any:
        return _function(self.parser)()

    def run(self, arguments: Sequence[str]) -> int:
        code: int = _function(self.main)(arguments)
        return code


_INFERENCE = "evaluation.toolbench.inference"
_TOOLEVAL = "evaluation.toolbench.tooleval"
COMMANDS = (
    Command(
        "run",
        "run a model over a file of queries; without ToolGen's data, the bundled demo",
        "evaluation.toolbench.launcher.run:make_parser",
        "evaluation.toolbench.launcher.run:main",
    ),
    Command(
        "evaluate",
        "run, convert, judge and print one table; without ToolGen's data, the bundled demo",
        "evaluation.toolbench.launcher.evaluate:make_parser",
        "evaluation.toolbench.launcher.evaluate:main",
    ),
    Command(
        "judge",
        "serve a judge on this machine's GPUs while a command runs",
        "evaluation.toolbench.launcher.judge:make_parser",
        "evaluation.toolbench.launcher.judge:main",
    ),
    Command(
        "doctor",
        "check this machine's GPUs and plan how a model will lie on them",
        f"{_INFERENCE}.doctor.options:make_parser",
        f"{_INFERENCE}.doctor.command:main",
    ),
    Command(
        "retrieval",
        "evaluate which tools a model names for queries: NDCG, recall; without ToolGen's data, the bundled demo",
        "evaluation.toolbench.launcher.retrieval:make_parser",
        "evaluation.toolbench.launcher.retrieval:main",
    ),
    Command(
        "report",
        "make report.html of a folder of answers",
        f"{_INFERENCE}.run_report.__main__:make_parser",
        f"{_INFERENCE}.run_report.__main__:main",
    ),
    Command(
        "score",
        "tell how many of the demo's queries a folder of answers solves",
        "evaluation.toolbench.demo.score:make_parser",
        "evaluation.toolbench.demo.score:main",
    ),
    Command(
        "convert",
        "convert answers for ToolEval",
        f"{_TOOLEVAL}.convert_to_answer_format:make_parser",
        f"{_TOOLEVAL}.convert_to_answer_format:main",
    ),
    Command(
        "pass_rate",
        "tell how many queries a model solves, by a judge",
        f"{_TOOLEVAL}.eval_pass_rate:make_parser",
        f"{_TOOLEVAL}.eval_pass_rate:main",
    ),
    Command(
        "preference",
        "tell which of two models answers better, by a judge",
        f"{_TOOLEVAL}.eval_preference:make_parser",
        f"{_TOOLEVAL}.eval_preference:main",
    ),
    Command(
        "new_toolset",
        "make tokens, catalog and an initialised checkpoint for tools of your own",
        "evaluation.toolbench.toolset.command:make_parser",
        "evaluation.toolbench.toolset.command:main",
    ),
    Command(
        "api",
        "serve recorded API replies, as `run` does by itself",
        "evaluation.toolbench.virtual_api.__main__:make_parser",
        "evaluation.toolbench.virtual_api.__main__:main",
    ),
)


def entry() -> NoReturn:
    """Run the program `toolgen`."""
    try:
        code = main()
    except KeyboardInterrupt:  # while the command's modules are imported
        code = 128 + signal.SIGINT
    leave(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; its exit code, 2 for a name that is not one."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    is_first_look = arguments[:1] == [FIRST_LOOK]
    if is_first_look:
        del arguments[0]
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version", "version"):
        print(version())
        return 0
    if name == "python":
        if is_first_look:
            return READY
        os.execv(sys.executable, [sys.executable, *rest])
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        near = difflib.get_close_matches(name, [*(command.name for command in COMMANDS), "python"], 1)
        guess = f"; did you mean {near[0]}?" if near else ""
        print(f"toolgen: no command {name!r}{guess} (--help lists them)", file=sys.stderr)
        return _USAGE_ERROR
    sys.argv[0] = f"toolgen {command.name}"  # usage lines and errors name what was typed
    # Help and mistakes come at once: importing what a command needs may take seconds, and installing it minutes.
    with suppress(ModuleNotFoundError):  # a command whose flags cannot be read without its packages
        command.make_parser().parse_args(rest)
    return READY if is_first_look else command.run(rest)


def version() -> str:
    """Return this tree's version and those that matter beside it."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return f"toolgen-multi-gpu {VERSION} ({', '.join(found)}, Python {platform.python_version()})"


def _help() -> str:
    width = max(len(command.name) for command in COMMANDS)
    commands = [(command.name, command.summary) for command in COMMANDS]
    commands.append(("python", "run Python with everything installed: python FILE, python -m benchmarks.demo_engines"))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in commands]
    return textwrap.dedent(
        """\
        usage: {how} COMMAND [FLAGS]

        ToolGen on many GPUs.

        commands:
        {lines}

        {how} COMMAND --help explains a command's flags; --version tells what is installed.

        examples:
          {how} run                                # the demo, or the data of the ToolGen checkout around it
          {how} run --limit 5                      # a first look at the model's answers
          {how} run --dry_run                      # checks everything a run needs, runs nothing
          {how} doctor --simulate 3x24GiB          # how the 8B model would lie on three such cards
          {how} report outputs/demo/demo_queries   # makes report.html anew"""
    ).format(how=launcher_name(), lines="\n".join(lines))


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
