"""Makes a tool set from the command line: `toolgen new_toolset --tools FOLDER --base_model MODEL --out FOLDER`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.toolbench.inference.command_line import OneLineParser, called_as, launcher_name, leave, run_program
from evaluation.toolbench.inference.errors import ConfigError

_EXAMPLES = """
toolgen new_toolset --tools my_tools --base_model /models/Llama-3-8B --out outputs/mine
toolgen new_toolset --tools evaluation/toolbench/demo/assets/toolenv/tools --base_model Qwen/Qwen3-0.6B --out mine
"""


def make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog=called_as("toolgen new_toolset"),
        description="Make a tool set of your own: DIR/data, with a token for each API, and DIR/model, a base model "
        "with these tokens in its vocabulary. Their rows are the means of the rows that spell their names, a beginning "
        "for training; until then the model knows no tool.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("--tools", required=True, metavar="DIR", help="folder of <category>/<tool>.json, as ToolBench's tools are")
    add("--base_model", required=True, metavar="PATH", help="folder or hub name of the model to extend")
    add("--out", required=True, metavar="DIR", help="folder for data/ and model/, made if it is not there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the tool set that the arguments ask for; return the exit code."""
    arguments = make_parser().parse_args(argv)
    return run_program(lambda: _make(Path(arguments.tools), arguments.base_model, Path(arguments.out)))


def _make(tools: Path, base_model: str, out: Path) -> int:
    if not tools.is_dir():
        raise ConfigError(f"no tool folder {tools}: pass --tools with <category>/<tool>.json in it")
    taken = [name for name in ("data", "model") if (out / name).exists()]
    if taken:
        raise ConfigError(f"{out / taken[0]} is there already: pass another --out, or remove it")
    from evaluation.toolbench.toolset.tools import read_tool_set, write_data

    tool_set = read_tool_set(tools)
    tokens = tool_set.tokens()
    from evaluation.toolbench.toolset.checkpoint import extended_checkpoint  # it imports torch

    num_new = extended_checkpoint(base_model, tokens, out / "model")
    write_data(out / "data", tool_set)
    print(
        f"{len(tool_set.tools)} tools with {tool_set.num_apis} APIs: {out / 'data'}\n{base_model} with {num_new} new "
        f"tokens: {out / 'model'}\nTrain it on conversations with these tools, then: "
        f"MODEL_PATH={out / 'model'} DATA_DIR={out / 'data'} {launcher_name()} run --input_query_file QUERIES"
    )
    return 0


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
