"""What a run says at its end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from evaluation.toolbench.inference.records.answers import Outcome
from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.run.summary import RunSummary, SetSummary, Tally

ANSWERED = Outcome("answered", num_steps=3, num_tokens=100)
GAVE_UP = Outcome("gave_up", num_steps=5, num_tokens=50)
NO_ANSWER = Outcome("no_answer", num_steps=6, num_tokens=60)


def summary_of(folder: Path, num_queries: int, earlier: Tally | None = None, now: Tally | None = None, **of_run):
    """Of a run over one set."""
    return RunSummary([SetSummary(folder, num_queries, earlier or Tally(), now or Tally())], **of_run)


def printed(summary: RunSummary, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    summary.print(console)
    return console.file.getvalue()


def tally(*outcomes: Outcome | None) -> Tally:
    counts = Tally()
    for outcome in outcomes:
        counts.add(outcome)
    return counts


def test_the_table_counts_the_whole_file_and_says_what_is_left():
    earlier, now = tally(ANSWERED), tally(ANSWERED, GAVE_UP, NO_ANSWER, None)
    rates = Rates(tokens_per_s=1234.5, queries_per_min=30.0)
    summary = summary_of(Path("/my [b]answers"), num_queries=7, earlier=earlier, now=now, rates=rates)
    text = printed(summary)
    row = text.splitlines()[3]
    assert row.split() == [
        *("7", "2", "1", "1", "1", "17"),
        *("30.0", "1,234.5"),
    ]
    assert "1 of them were done by earlier runs" in text
    assert "Failures: /my [b]answers/failures.json" in text
    assert "2 queries are left" in text
    assert "Answers: /my [b]answers" in text
    assert summary.exit_code == 1


def test_on_a_narrow_terminal_no_number_is_cut():
    rates = Rates(tokens_per_s=1234.5, queries_per_min=30.0)
    summary = summary_of(Path("answers"), num_queries=2, now=tally(ANSWERED, None), rates=rates)
    lines = printed(summary, width=20).splitlines()
    assert lines[:2] == [
        "2 queries, 1 answered, 0 gave up, 0 no answer, 1 failed, 3 steps",
        "30.0 queries/min, 1,234.5 tokens/s",
    ]
    wide = printed(summary, width=78)
    assert "1,234.5" in wide
    assert "…" not in wide


def test_a_signal_decides_the_exit_code():
    assert summary_of(Path(), 1, now=tally(None), exit_code_of_signal=130).exit_code == 130
    assert summary_of(Path(), 1, now=tally(GAVE_UP)).exit_code == 0


def test_nothing_to_do_is_one_line():
    text = printed(summary_of(Path("/answers"), num_queries=2, earlier=tally(ANSWERED, GAVE_UP)))
    assert text == "Nothing to do: all 2 queries are answered in /answers\n"


def test_an_empty_query_file_is_a_table_of_zeros():
    assert "Answers: /answers" in printed(summary_of(Path("/answers"), num_queries=0))


def test_failures_of_one_cause_are_one_line_with_their_number():
    summary = summary_of(Path("/answers"), num_queries=4, now=tally(None, None, None))
    for query in ("17", "18"):
        summary.causes.add(Problem("TimeLimitError", f"query {query} took longer than 3600 s"))
    summary.causes.add(Problem("KeyError", "'city'"))
    assert printed(summary).splitlines()[-4:-2] == [
        "  2 x TimeLimitError: query 17 took longer than 3600 s",
        "  1 x KeyError: 'city'",
    ]


def test_calls_that_the_cache_lacks_are_told():
    summary = summary_of(
        Path("/answers"), num_queries=1, now=tally(ANSWERED), api_calls=400, cache=CacheUse(misses=300)
    )
    assert (
        "WARNING: 300 of 400 API calls (75%) had no reply in the response cache and were answered with an error: these "
        "answers are not those of a complete cache." in printed(summary)
    )


@pytest.mark.parametrize(("errors", "misses", "is_told"), [(400, 0, True), (300, 0, False), (400, 300, False)])
def test_a_server_that_answers_with_nothing_but_errors_is_warned_of(errors, misses, is_told):
    summary = summary_of(
        Path("/answers"), 1, now=tally(ANSWERED), api_calls=400, api_errors=errors, cache=CacheUse(misses=misses)
    )
    assert ("WARNING: 400 of 400 API calls (100%) ended with an error" in printed(summary)) == is_told


def test_several_sets_are_a_row_each_and_one_over_all():
    sets = [
        SetSummary(Path("/out/G1_tool"), 3, earlier=tally(ANSWERED), now=tally(GAVE_UP), name="G1_tool"),
        SetSummary(Path("/out/G3_instruction"), 2, now=tally(ANSWERED, None), name="G3_instruction"),
    ]
    summary = RunSummary(sets, rates=Rates(tokens_per_s=10.0, queries_per_min=2.0))
    text = printed(summary)
    rows = [line.split() for line in text.splitlines()]
    assert ["G1_tool", "3", "1", "1", "0", "0", "8"] in rows
    assert ["G3_instruction", "2", "1", "0", "0", "1", "3"] in rows
    assert ["all", "5", "2", "1", "0", "1", "11"] in rows
    assert "2.0 queries/min, 10.0 tokens/s" in text
    assert "Failures: /out/G3_instruction/failures.json" in text
    assert "/out/G1_tool/failures.json" not in text
    assert "1 queries are left" in text
    assert "Answers: /out\n" in text
    assert summary.exit_code == 1
