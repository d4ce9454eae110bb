"""What users get wrong: one line each, exit code 2, and nothing asked of a judge."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys

import pytest

from evaluation.toolbench.inference.records.json_lines import read_json_lines
from evaluation.toolbench.tooleval import eval_pass_rate, eval_preference
from tests.helpers.pipeline import ROOT
from tests.helpers.scoring import MODEL, complaints


def test_no_judge_there_is_said_within_seconds(world, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert eval_pass_rate.main(world.pass_rate_arguments("--judge_url", f"http://127.0.0.1:{port}")) == 2
    [line] = complaints(capsys)
    assert f"the judge at http://127.0.0.1:{port}/v1 cannot be reached: connection refused" in line
    assert "--judge_url" in line
    assert not world.file("_results.json").exists()


def test_no_judge_named_is_said(world, capsys):
    assert eval_pass_rate.main(world.pass_rate_arguments()) == 2
    [line] = complaints(capsys)
    assert line.startswith("no judge: pass --judge_url")


def test_a_wrong_key_is_said_and_not_shown(world, judge, monkeypatch, capsys):
    judge.api_key = "right"
    monkeypatch.setenv("JUDGE_API_KEY", "very-secret")
    assert world.pass_rate(judge) == 2
    [line] = complaints(capsys)
    assert "refuses the key (status 401): set JUDGE_API_KEY" in line
    assert "very-secret" not in line
    assert judge.requests == []


def test_a_model_that_is_not_served_is_said(world, judge, capsys):
    assert world.pass_rate(judge, "--judge_model", "gpt-9") == 2
    [line] = complaints(capsys)
    assert "The model `gpt-9` does not exist" in line


def test_a_converted_file_of_another_set_is_said(world, judge, capsys):
    (world.ids / "G9_demo.json").write_text('{"1": 0, "2": 0}')
    assert world.pass_rate(judge) == 2
    [line] = complaints(capsys)
    assert "has none of the 2 ids" in line
    assert "such as 5001" in line
    assert judge.requests == []


def test_ids_that_are_missing_are_named_and_count_as_unsolved(world, judge, capsys):
    assert world.pass_rate(judge) == 0
    printed = capsys.readouterr().out
    assert "1 without an answer, which count as unsolved: 5004" in printed
    assert world.results()["solve_rate_all"] < world.results()["solve_rate"]


def damage(world, what):
    answers = world.converted / MODEL / "G9_demo.json"
    ids = world.ids / "G9_demo.json"
    if what == "no answers":
        answers.unlink()
    elif what == "cut answers":
        answers.write_text(answers.read_text()[:100])
    elif what == "list of answers":
        answers.write_text("[]")
    elif what == "answer without final answer":
        record = json.loads(answers.read_text())
        del record["5001"]["answer"]["final_answer"]
        answers.write_text(json.dumps(record))
    elif what == "steps without end":
        answers.write_text(answers.read_text().replace('"total_steps": ', '"total_steps": 1e999, "steps": ', 1))
    elif what == "no ids":
        ids.unlink()
    elif what == "empty ids":
        ids.write_text("{}")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no answers", "cannot read the converted answers file"),
        ("cut answers", "is not JSON"),
        ("list of answers", "holds a list"),
        ("answer without final answer", "the entry 5001 is not a converted answer"),
        ("steps without end", "the entry 5001 is not a converted answer (OverflowError"),
        ("no ids", "cannot read the test ids file"),
        ("empty ids", "names no query"),
    ],
)
def test_a_damaged_input_is_one_line(world, judge, capsys, what, words):
    damage(world, what)
    assert world.pass_rate(judge) == 2
    [line] = complaints(capsys)
    assert words in line
    assert judge.requests == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--judge_url", "localhost:8000"), "--judge_url must start with http"),
        (("--judge_prompts", "/nowhere"), "--judge_prompts /nowhere is not a folder"),
        (("--evaluator", "tooleval_gpt-5"), "unknown --evaluator 'tooleval_gpt-5'"),
        (("--reference_model", ""), "--reference_model is missing"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_one_line(world, judge, capsys, flags, words):
    assert world.pass_rate(judge, *flags) == 2
    [line] = complaints(capsys)
    assert words in line


@pytest.mark.parametrize(
    ("flag", "value"),
    [("evaluate_times", "0"), ("max_eval_threads", "x"), ("judge_constraint", "force"), ("judge_timeout", "0")],
)
def test_a_value_that_cannot_be_meant_is_one_line(world, judge, capsys, flag, value):
    with pytest.raises(SystemExit) as caught:
        world.pass_rate(judge, f"--{flag}", value)
    assert caught.value.code == 2
    [line] = complaints(capsys)
    assert f"--{flag}" in line
    assert value in line


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (None, "cannot read API_POOL_FILE"),
        ("[", "is not JSON"),
        ("{}", "is not a list of"),
        ('[{"username": "me"}]', "entry 0 has neither an api_key nor an api_base"),
        ('[{"api_key": "k", "api_base": "example.org"}]', "entry 0, api_base must start with http"),
        ('[{"api_key": "k\\u00e9y"}]', "has characters that an HTTP header cannot carry"),
    ],
)
def test_a_bad_pool_file_is_one_line(world, tmp_path, monkeypatch, capsys, pool, words):
    path = tmp_path / "pool.json"
    if pool is not None:
        path.write_text(pool)
    monkeypatch.setenv("API_POOL_FILE", str(path))
    assert world.pass_rate(None) == 2
    [line] = complaints(capsys)
    assert words in line
    assert "k\u00e9y" not in line


def test_a_file_of_an_earlier_scoring_that_is_damaged_is_one_line(world, judge, capsys):
    world.file(".json").parent.mkdir(parents=True)
    world.file(".json").write_text("[1")
    assert world.pass_rate(judge) == 2
    [line] = complaints(capsys)
    assert "--overwrite" in line
    assert world.pass_rate(judge, "--overwrite") == 0


@pytest.mark.parametrize(
    "entry", [5, None, {"tram-dfs": 10**15, "tram-cot": -3, "round_0": "complete"}, {"tram-dfs": 1, "tram-cot": 0}]
)
def test_votes_of_an_earlier_scoring_that_cannot_be_are_passed_over(world, judge, entry):
    world.preferences.mkdir()
    world.preference_file(".json").write_text(json.dumps({"5001": entry}))
    assert world.preference(judge) == 0
    assert list(json.loads(world.preference_file(".json").read_text())["5001"])[2:] == ["round_0", "round_1", "round_2"]


def test_a_repeat_whose_number_python_does_not_convert_is_passed_over(world, judge):
    world.file(".json").parent.mkdir(parents=True)
    world.file(".json").write_text(json.dumps({"5001": {"is_solved": {"9" * 5000: "AnswerStatus.Solved"}}}))
    assert world.pass_rate(judge) == 0
    assert world.results()["judge"]["earlier_verdicts"] == 0


def test_two_scorings_of_the_same_files_do_not_run_at_once(world, judge, capsys):
    world.write_answers(30)
    judge.delay_s = 0.2
    process = world.start_pass_rate(judge)
    try:
        while not judge.requests:
            assert process.poll() is None, process.communicate()
        assert world.pass_rate(judge) == 2
        [line] = complaints(capsys)
        assert "in use by another scoring" in line
    finally:
        process.kill()
        process.communicate()


def test_a_full_disk_is_one_line_and_what_was_written_is_gone_on_from(world, judge):
    world.write_answers(30)

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    arguments = world.pass_rate_arguments("--judge_url", judge.url, "--evaluate_times", "3")
    process = subprocess.run(
        [sys.executable, "-m", "evaluation.toolbench.tooleval.eval_pass_rate", *arguments],
        cwd=ROOT,
        env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"),
        text=True,
        capture_output=True,
        preexec_fn=small_files,
    )
    assert process.returncode == 2
    [line] = [line for line in process.stderr.splitlines() if not line.startswith("WARNING: ")]
    assert "What is written so far is kept" in line
    kept = list(read_json_lines(world.file("_verdicts.jsonl")))
    assert len(kept) > 5
    assert world.pass_rate(judge) == 0
    verdicts = list(read_json_lines(world.file("_verdicts.jsonl")))
    assert verdicts[: len(kept)] == kept
    assert len(verdicts) == 90, "what was kept is not asked again"
    assert world.results()["solve_rate"] == 100


def test_ids_that_stdout_cannot_carry_are_named_all_the_same(world, judge):
    ids = json.loads((world.ids / "G9_demo.json").read_text()) | {"\u67e5": 0, "half \ud83d": 0}
    (world.ids / "G9_demo.json").write_text(json.dumps(ids))
    for encoding, named in (("ascii", "\\u67e5, half \\ud83d"), ("utf-8", "\u67e5, half \\ud83d")):
        process = subprocess.run(
            [
                *(sys.executable, "-m", "evaluation.toolbench.tooleval.eval_pass_rate"),
                *world.pass_rate_arguments("--judge_url", judge.url),
            ],
            cwd=ROOT,
            env=dict(os.environ, PYTHONIOENCODING=encoding),
            capture_output=True,
        )
        assert process.returncode == 0, process.stderr
        assert f"as unsolved: 5004, {named}" in process.stdout.decode(encoding)


@pytest.mark.parametrize("gone", [">/dev/full", "| true", ">&-"])
def test_a_reader_that_has_gone_ends_no_scoring(world, judge, gone):
    answers = json.loads((world.ids / "G9_demo.json").read_text())
    (world.ids / "G9_second.json").write_text(json.dumps(answers))
    (world.converted / MODEL / "G9_second.json").write_text((world.converted / MODEL / "G9_demo.json").read_text())
    arguments = world.pass_rate_arguments("--judge_url", judge.url, sets=("G9_demo", "G9_second"))
    process = subprocess.run(
        [
            *("bash", "-c", f'"$@" {gone}; exit "${{PIPESTATUS[0]}}"', "bash"),
            *(sys.executable, "-m", "evaluation.toolbench.tooleval.eval_pass_rate", *arguments),
        ],
        cwd=ROOT,
        text=True,
        stderr=subprocess.PIPE,
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert world.file("_results.json", test_set="G9_second").exists()


def test_one_model_cannot_be_compared_with_itself(world, judge, capsys):
    assert world.preference(judge, "--output_model", "tram-dfs") == 2
    [line] = complaints(capsys)
    assert "name two models" in line


def test_preference_by_pass_rates_that_are_not_there_is_one_line(world, judge, capsys):
    assert world.preference(judge, "--use_pass_rate", "true") == 2
    [line] = complaints(capsys)
    assert "run eval_pass_rate first" in line
    assert judge.requests == []


@pytest.mark.parametrize("command", [eval_pass_rate, eval_preference])
def test_help_names_every_flag_of_tooleval(command, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    flags = ["converted_answer_path", "test_ids", "reference_model", "save_path", "evaluator", "max_eval_threads"]
    flags += ["evaluate_times", "test_set", "overwrite"]
    if command is eval_preference:
        flags += ["output_model", "pass_rate_result_path", "use_pass_rate"]
    assert all(f"--{flag}" in text for flag in flags)
