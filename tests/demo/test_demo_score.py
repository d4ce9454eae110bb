"""The demo's score: what counts as solved, and what the exit code says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.toolbench.demo.score import judge, main, report, score_folder

EXPECTED = {
    "split": "held_out",
    "calls": [{"name": "daily_forecast_for_sky_watch", "arguments": {"city": "Oslo", "days": 3}}],
    "answer_contains": ["light rain", "12"],
}
RIGHT_CALL = ("daily_forecast_for_sky_watch", '{"days": 3, "city": "Oslo"}')
RIGHT_ANSWER = "In Oslo: light rain, up to 12 degrees."


def answer_file(folder: Path, query_id: int, calls: list[tuple[str, str]], answer: str) -> None:
    finish = json.dumps({"return_type": "give_answer", "final_answer": answer})
    messages: list[dict[str, Any]] = [{"role": "system", "content": ""}, {"role": "user", "content": ""}]
    for name, arguments in [*calls, ("Finish", finish)]:
        call = {"id": None, "type": "function", "function": {"name": name, "arguments": arguments}}
        messages.append({"role": "assistant", "content": "", "function_call": None, "tool_calls": [call]})
        messages.append({"role": "tool", "name": name, "content": ""})
    record = {"answer_generation": {"train_messages": [messages[:3], messages], "final_answer": finish}}
    (folder / f"{query_id}_CoT@1.json").write_text(json.dumps(record), encoding="utf-8")


def data_folder(folder: Path, query_ids: list[int]) -> Path:
    (folder / "expected.json").write_text(json.dumps({str(n): EXPECTED for n in query_ids}), encoding="utf-8")
    return folder


def test_a_folder_that_is_not_there_is_said_instead_of_scored(tmp_path, capsys):
    assert main(["--answers", str(tmp_path / "nothing")]) == 2
    assert "no folder of answers at" in capsys.readouterr().err


def test_right_call_and_answer_solve_a_query():
    verdict = judge("1", EXPECTED, [RIGHT_CALL], RIGHT_ANSWER)
    assert verdict.solved
    assert verdict.problem == ""


def test_call_repeated_at_once_counts_once():
    assert judge("1", EXPECTED, [RIGHT_CALL, RIGHT_CALL], RIGHT_ANSWER).solved


@pytest.mark.parametrize(
    ("calls", "answer", "tools", "arguments", "says"),
    [
        ([("air_quality_for_sky_watch", RIGHT_CALL[1])], RIGHT_ANSWER, False, True, True),
        ([(RIGHT_CALL[0], '{"city": "Oslo", "days": "3"}')], RIGHT_ANSWER, True, False, True),
        ([(RIGHT_CALL[0], '{"city": "Oslo"')], RIGHT_ANSWER, True, False, True),
        ([RIGHT_CALL], "In Oslo: light rain, up to 120 degrees.", True, True, False),
        ([RIGHT_CALL], None, True, True, False),
        ([], None, False, False, False),
    ],
    ids=["wrong tool", "number as text", "broken arguments", "fact only as a part", "gave up", "nothing"],
)
def test_what_is_wrong_is_told_apart(calls, answer, tools, arguments, says):
    verdict = judge("1", EXPECTED, calls, answer)
    assert (verdict.tools, verdict.arguments, verdict.answer) == (tools, arguments, says)
    assert not verdict.solved
    assert verdict.problem


def test_long_texts_are_cut_in_the_report():
    verdict = judge("1", EXPECTED, [("x" * 5000, "{}")], None)
    assert len(report([verdict]).splitlines()[0]) < 500


def test_folder_scores_queries_with_and_without_answer_file(tmp_path):
    answer_file(tmp_path, 1, [RIGHT_CALL], RIGHT_ANSWER)
    (tmp_path / "failures.json").write_text("[]")
    first, second = score_folder(tmp_path, {"1": EXPECTED, "2": EXPECTED})
    assert first.solved
    assert second.problem == "no answer file"


@pytest.mark.parametrize(("solved", "code"), [(9, 0), (8, 1)])
def test_exit_code_tells_whether_nine_of_ten_are_solved(tmp_path, capsys, solved, code):
    for query_id in range(1, solved + 1):
        answer_file(tmp_path, query_id, [RIGHT_CALL], RIGHT_ANSWER)
    data = data_folder(tmp_path, list(range(1, 11)))
    assert main(["--answers", str(tmp_path), "--data_dir", str(data)]) == code
    assert f"{solved}0%" in capsys.readouterr().out


def test_folder_that_is_not_the_demos_is_one_clear_line(tmp_path, capsys):
    assert main(["--answers", str(tmp_path), "--data_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "expected.json" in error
    assert len(error.strip().splitlines()) == 1
