"""What a run says at its end."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from evaluation.toolbench.inference.records.answers import Outcome
from evaluation.toolbench.inference.run.summary import RunSummary, Tally

ANSWERED = Outcome(is_answered=True, num_steps=3, num_tokens=100)
GAVE_UP = Outcome(is_answered=False, num_steps=5, num_tokens=50)


def printed(summary: RunSummary) -> str:
    console = Console(file=io.StringIO(), width=200)
    summary.print(console)
    return console.file.getvalue()


def tally(*outcomes: Outcome | None) -> Tally:
    counts = Tally()
    for outcome in outcomes:
        counts.add(outcome)
    return counts


def test_the_table_counts_the_whole_file_and_says_what_is_left():
    earlier, now = tally(ANSWERED), tally(ANSWERED, GAVE_UP, None)
    summary = RunSummary(Path("/my [b]answers"), num_queries=6, earlier=earlier, now=now)
    text = printed(summary)
    row = next(line for line in text.splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in row.strip("│").split("│")][:5] == ["6", "2", "1", "1", "11"]
    assert "1 of them were done by earlier runs" in text
    assert "Failures: /my [b]answers/failures.json" in text
    assert "2 queries are left" in text
    assert "Answers: /my [b]answers" in text
    assert summary.exit_code == 1


def test_a_signal_decides_the_exit_code():
    assert RunSummary(Path(), 1, now=tally(None), exit_code_of_signal=130).exit_code == 130
    assert RunSummary(Path(), 1, now=tally(GAVE_UP)).exit_code == 0


def test_nothing_to_do_is_one_line():
    text = printed(RunSummary(Path("/answers"), num_queries=2, earlier=tally(ANSWERED, GAVE_UP)))
    assert text == "Nothing to do: all 2 queries are answered in /answers\n"


def test_an_empty_query_file_is_a_table_of_zeros():
    assert "Answers: /answers" in printed(RunSummary(Path("/answers"), num_queries=0))
