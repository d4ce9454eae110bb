"""Converts a folder of answers: `python -m evaluation.toolbench.tooleval.convert_to_answer_format --help`.

ToolEval's command, flags and file. It takes the files `<id>_<method>.json` of exactly one method.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.command_line import OneLineParser, called_as, leave, run_program, say
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.answers import output_errors
from evaluation.toolbench.inference.records.whole_files import write_whole
from evaluation.toolbench.json_input import read_json
from evaluation.toolbench.tooleval.converter import convert

_ANY_METHOD = re.compile(r".+?_((?:CoT|DFS).*)\.json", re.IGNORECASE)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return 0, 1 if a file could not be converted, 2 without any."""
    options = make_parser().parse_args(argv)
    return run_program(lambda: _convert(options))


def _convert(options: argparse.Namespace) -> int:
    paths = find_answers(options.answer_dir, options.method)
    converted, problems = convert_files(paths, options.method)
    for problem in problems:
        say(problem)
    if not converted:
        raise DataError(f"none of the {len(paths)} answer files in {options.answer_dir} can be converted")
    write_converted(options.output, converted)
    say(f"Converted {len(converted)} answers", sys.stdout)
    return 1 if problems else 0


def find_answers(folder: Path, method: str) -> dict[str, Path]:
    """Return query id -> answer file, numbers first, in order. DataError if the folder has none of this method."""
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"cannot read the answer folder {folder}: {error.strerror}. A run makes one; --answer_dir names it"
        ) from error
    suffix = f"_{method}.json"
    ids = [name.removesuffix(suffix) for name in names if name.endswith(suffix) and name != suffix]
    others = Counter(match[1] for name in names if (match := _ANY_METHOD.fullmatch(name)) and match[1] != method)
    found = ", ".join(f"{count} of {other}" for other, count in sorted(others.items()))
    if not ids:
        has = f"it has {found}" if found else "it has no answer files"
        raise DataError(f"{folder} has no answer of the method {method} (<id>{suffix}): {has}")
    if found:
        say(f"{folder}: passed over are answers of other methods: {found}")
    return {query_id: folder / (query_id + suffix) for query_id in sorted(ids, key=_natural)}


def convert_files(paths: Mapping[str, Path], method: str) -> tuple[dict[str, Any], list[str]]:
    """Return (converted answers by id, a line for each file that could not be converted)."""
    converted, problems = {}, []
    for query_id, path in paths.items():
        try:
            converted[query_id] = convert(read_json(path, max_depth=None), query_id, method)
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except (ValueError, RecursionError) as error:
            problems.append(f"{path} is not whole JSON: {error}")
        except DataError as error:
            problems.append(f"{path} {error}")
    return converted, problems


def write_converted(path: Path, converted: Mapping[str, Any]) -> None:
    """Write the converted file, whole, as one line; its folder is made where there is none. OutputError."""
    with output_errors(path, "--output"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(converted))


def _natural(query_id: str) -> tuple[bool, int, str]:
    return (not query_id.isdecimal(), int(query_id) if query_id.isdecimal() else 0, query_id)


def make_parser() -> argparse.ArgumentParser:
    """Make a parser with the flags, which are ToolEval's."""
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.tooleval.convert_to_answer_format"),
        description="Convert a folder of answers to the form that eval_pass_rate and eval_preference read.",
        examples="toolgen convert --answer_dir outputs/demo/demo_queries --method CoT@1 --output converted.json",
        epilog="Exit codes: 0 done, 1 some file could not be converted (it is named, the others are written), 2 "
        "nothing to convert.",
    )
    parser.add_argument(
        "--answer_dir", type=Path, required=True, metavar="DIR", help="folder with <id>_<method>.json files"
    )
    parser.add_argument("--method", required=True, help="such as CoT@1 or DFS_woFilter_w2")
    parser.add_argument(
        "--output", type=Path, default=Path("converted_answers.json"), metavar="FILE", help="the converted file"
    )
    return parser


if __name__ == "__main__":
    leave(main())
