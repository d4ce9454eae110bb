"""Tells how many of the demo's queries an answer folder solves.

    python -m evaluation.toolbench.demo.score --answers FOLDER [--data_dir FOLDER] [--minimum 0.9]

A query is solved when the right tools were called with the right arguments and the final answer says
what they returned. Exit code 0 when at least `--minimum` of the held-out queries are solved, 1 when not.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.inference.command_line import OneLineParser, called_as, launcher_name
from evaluation.toolbench.inference.errors import DataError, ToolGenError

FINISH_NAME = "Finish"
GOAL = 0.9  # of the held-out queries
_LONGEST_QUOTE = 160  # characters of an answer in the report

Call = tuple[str, str]  # ToolBench name, arguments as generated


@dataclass(frozen=True)
class Verdict:
    """Says what is right about the answer of one query; `problem` says what is not, in words."""

    query_id: str
    split: str
    tools: bool
    arguments: bool
    answer: bool
    problem: str = ""

    @property
    def solved(self) -> bool:
        return self.tools and self.arguments and self.answer


def main(arguments: Sequence[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    try:
        verdicts = score_folder(options.answers, load_expected(options.data_dir))
    except ToolGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(report(verdicts))
    held_out = [verdict.solved for verdict in verdicts if verdict.split == "held_out"]
    return 0 if sum(held_out) >= options.minimum * len(held_out) else 1


def make_parser() -> OneLineParser:
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.demo.score"),
        description="Tell how many of the demo's queries an answer folder solves: the right tools with the right "
        "arguments, and a final answer that says what they returned.",
        examples="toolgen score --answers outputs/demo/demo_queries",
        epilog="Exit code: 0 at least --minimum of the held-out queries are solved, 1 fewer, 2 an unreadable folder.",
    )
    parser.add_argument(
        "--answers", type=Path, required=True, metavar="DIR", help="folder with the <id>_<method>.json files"
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        default=DATA_DIR,
        metavar="DIR",
        help="the demo's data folder (default: the bundled one)",
    )
    parser.add_argument(
        "--minimum", type=float, default=GOAL, metavar="SHARE", help="of the held-out queries to be solved, 0 to 1"
    )
    return parser


def load_expected(data_dir: Path) -> dict[str, dict[str, Any]]:
    """Return query id -> what its answer must have; DataError when the folder is not the demo's."""
    path = data_dir / "expected.json"
    try:
        expected: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}. Only the demo's data folder has it") from error
    return expected


def score_folder(answers: Path, expected: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Return a verdict for every query of the demo, in their order; one without an answer file is not solved.

    DataError where there is no such folder.
    """
    if not answers.is_dir():
        raise DataError(f"no folder of answers at {answers}: `{launcher_name()} run` makes outputs/demo/demo_queries")
    files = {path.name.partition("_")[0]: path for path in sorted(answers.glob("*_*.json"))}
    return [_score_file(query_id, files.get(query_id), expected[query_id]) for query_id in expected]


def judge(query_id: str, expected: Mapping[str, Any], calls: Sequence[Call], final_answer: str | None) -> Verdict:
    """Compare the calls before Finish and the final answer (None: none was given) with what is expected.

    A call that is repeated at once, because it failed, counts once.
    """
    distinct = [call for position, call in enumerate(calls) if position == 0 or call != calls[position - 1]]
    names = [name for name, _ in distinct]
    arguments = [_parsed(text) for _, text in distinct]
    right_names = [call["name"] for call in expected["calls"]]
    right_arguments = [call["arguments"] for call in expected["calls"]]
    missing = [fact for fact in expected["answer_contains"] if not _says(final_answer or "", fact)]
    problem = ""
    if names != right_names:
        problem = f"called {_brief(names)} instead of {_brief(right_names)}"
    elif arguments != right_arguments:
        problem = f"arguments {_brief(arguments)} instead of {_brief(right_arguments)}"
    elif final_answer is None:
        problem = "no final answer"
    elif missing:
        problem = f"the answer {_brief(final_answer)} lacks {_brief(missing)}"
    return Verdict(
        query_id=query_id,
        split=expected["split"],
        tools=names == right_names,
        arguments=arguments == right_arguments,
        answer=final_answer is not None and not missing,
        problem=problem,
    )


def report(verdicts: Sequence[Verdict]) -> str:
    """Return a line per query that is not solved, and a table with a line per split."""
    lines = [f"{verdict.query_id}: {verdict.problem}" for verdict in verdicts if not verdict.solved]
    lines.append(f"{'split':<10}{'queries':>9}{'tools':>9}{'arguments':>11}{'answer':>9}{'solved':>9}")
    for split in dict.fromkeys(verdict.split for verdict in verdicts):
        group = [verdict for verdict in verdicts if verdict.split == split]
        tools = sum(verdict.tools for verdict in group)
        arguments = sum(verdict.arguments for verdict in group)
        answer = sum(verdict.answer for verdict in group)
        solved = sum(verdict.solved for verdict in group)
        share = f"{solved / len(group):.0%}"
        lines.append(f"{split:<10}{len(group):>9}{tools:>9}{arguments:>11}{answer:>9}{solved:>9}  {share}")
    return "\n".join(lines)


def final_answer_of(finish_arguments: str) -> str | None:
    """Return the answer in the arguments of Finish; None for a give-up or for what is not an answer."""
    values = _parsed(finish_arguments)
    if not isinstance(values, dict) or values.get("return_type") != "give_answer":
        return None
    answer = values.get("final_answer")
    return answer if isinstance(answer, str) else None


def _score_file(query_id: str, path: Path | None, expected: Mapping[str, Any]) -> Verdict:
    if path is None:
        return Verdict(query_id, expected["split"], False, False, False, "no answer file")
    try:
        generation = json.loads(path.read_text(encoding="utf-8"))["answer_generation"]
        conversations = generation["train_messages"]
        calls = _calls(conversations[-1]) if conversations else []
        final_answer = final_answer_of(generation["final_answer"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not an answer file of a run: {error!r}") from error
    return judge(query_id, expected, [call for call in calls if call[0] != FINISH_NAME], final_answer)


def _calls(messages: Sequence[Mapping[str, Any]]) -> list[Call]:
    functions = [call["function"] for message in messages for call in message.get("tool_calls") or ()]
    return [(function["name"], function["arguments"]) for function in functions]


def _parsed(text: str) -> Any:
    """Return the arguments as a value; the text itself where it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _brief(value: Any) -> str:
    """Return `value` on one line, cut: a model that is lost writes without end."""
    return textwrap.shorten(repr(value), _LONGEST_QUOTE, placeholder="...")


def _says(answer: str, fact: str) -> bool:
    """Return whether `fact` stands in `answer` as a whole: 12 is not in 120."""
    return re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", answer) is not None


if __name__ == "__main__":
    sys.exit(main())
