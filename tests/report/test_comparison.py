"""Runs side by side: what is paired with what, whose verdicts count, and what cannot be compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.records.run_record import RunRecord, write_run_record
from evaluation.toolbench.inference.run_report.__main__ import main
from evaluation.toolbench.inference.run_report.compared_runs import read_runs
from evaluation.toolbench.inference.run_report.comparison import comparison_data, write_comparison
from evaluation.toolbench.inference.run_report.judgements import read_judgements
from tests.helpers.run_report import GIVE_UP, Move, finish, replica_log, run_query, search, write_answer

EXAMPLE = Path(__file__).resolve().parents[3] / "shared" / "contract" / "scoring_example"


def answer(folder, query_id, moves, method="CoT@1"):
    folder.mkdir(parents=True, exist_ok=True)
    write_answer(folder, query_id, search(moves, method=method), f"Question {query_id}?", method)


def verdict(query_id, repeat, verdict, reason="", check="check_answer_status"):
    record = {"query_id": query_id, "repeat": repeat, "check": check, "verdict": verdict, "reason": reason}
    return {**record, "model": "judge-70b", "seed": 1, "prompt_sha256": "0"}


def write_log(folder, stem, verdicts):
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(each) + "\n" for each in verdicts)
    (folder / f"{stem}_verdicts.jsonl").write_text(lines + '{"query_id": "torn')


def write_statuses(folder, stem, statuses):
    folder.mkdir(parents=True, exist_ok=True)
    entries = {
        query_id: {"is_solved": {str(i): f"AnswerStatus.{each}" for i, each in enumerate(words)}}
        for query_id, words in statuses.items()
    }
    (folder / f"{stem}.json").write_text(json.dumps(entries))


@pytest.fixture
def runs(tmp_path):
    """Two runs over two sets, in folders as the scripts lay them out."""
    for model, code in (("old", 0), ("new", 6)):
        for test_set in ("G1", "G2"):
            for number in range(4):
                answer(tmp_path / "answer" / model / test_set, str(number), [Move(code=code), finish()])
    answer(tmp_path / "answer" / "new" / "G2", "9", [finish()])
    return [tmp_path / "answer" / model for model in ("old", "new")]


def data_of(runs, scores=()):
    return comparison_data(read_runs(runs, scores))


def row(data, key):
    return next(each for each in data["rows"] if each["key"] == key)


def test_queries_are_paired_by_set_and_id(runs):
    data = data_of(runs)
    assert data["sets"] == ["G1", "G2"]
    assert [run["name"] for run in data["runs"]] == ["old", "new"]
    assert len(data["rows"]) == 9
    assert row(data, "G2/9")["cells"][0] is None
    tests = data["pairs"]["0-1"]
    assert {name: test["common"] for name, test in tests.items()} == {"G1": 4, "G2": 4, "*": 8}
    assert tests["*"]["means"]["errors"] == {"num_queries": 8, "left": 0.0, "right": 1.0, "low": 1.0, "high": 1.0}
    assert tests["*"]["solved"] is None


def test_shares_of_simulated_replies_are_of_the_tries_that_count(tmp_path):
    for name, cache in (("old", "hit"), ("new", "simulated")):
        (tmp_path / name).mkdir()
        with replica_log(tmp_path / name) as log:
            run_query(tmp_path / name, log, "1", [Move(), finish()])
        write_run_record(tmp_path / name, RunRecord("r", "finished", 0, settings={"simulator": "mirror (seed 1)"}))
        [path] = (tmp_path / name).glob("events-*.jsonl")
        path.write_text(path.read_text().replace('"event":"call"', f'"event":"call","cache":"{cache}"'))
    told = [
        (run["calls"], run["simulated"], run["simulator"])
        for run in data_of([tmp_path / "old", tmp_path / "new"])["runs"]
    ]
    assert told == [(1, 0, "mirror (seed 1)"), (1, 1, "mirror (seed 1)")]


def test_folders_without_sets_are_one_set_whatever_they_are_called(runs, tmp_path):
    data = data_of([runs[0] / "G1", runs[1] / "G2"])
    assert data["sets"] == [""]
    assert [each["key"] for each in data["rows"]] == ["0", "1", "2", "3", "9"]
    names = [run["name"] for run in data_of([runs[0] / "G1", runs[1] / "G1"])["runs"]]
    assert names == ["old", "new"]


def test_each_method_in_a_folder_is_a_run(runs):
    answer(runs[1] / "G1", "0", [finish()], method="DFS_woFilter_w2")
    data = data_of(runs)
    assert [run["name"] for run in data["runs"]] == ["old · CoT@1", "new · CoT@1", "new · DFS_woFilter_w2"]
    assert data["pairs"]["0-2"]["*"]["common"] == 1
    assert data["pairs"]["0-2"]["*"]["means"]["steps"]["low"] is None


def test_verdicts_are_found_where_the_scripts_put_them(runs, tmp_path):
    scores = tmp_path / "results" / "pass_rate"
    write_statuses(scores / "old", "G1_old", {"0": ["Solved"] * 3, "1": ["Unsure", "Solved", "Unsolved"]})
    write_log(scores / "old", "G1_old", [verdict("0", 0, "Solved", "It names the trams.")])
    write_statuses(scores / "new", "G1_new", {"0": ["Unsolved"] * 3, "1": ["Solved"] * 3, "2": ["Solved"] * 3})
    data = data_of(runs)
    cells = row(data, "G1/1")["cells"]
    assert [(cell["status"], cell["score"]) for cell in cells] == [("Unsure", 0.5), ("Solved", 1.0)]
    assert row(data, "G1/3")["cells"][0]["status"] is None  # answered, and nobody judged it
    solved = data["pairs"]["0-1"]["*"]["solved"]
    assert (solved["num_queries"], solved["left_only"], solved["right_only"]) == (2, 1, 1)
    assert data["runs"][0]["judges"] == ["judge-70b"]
    assert data["runs"][0]["repeats"] == 3


def test_verdicts_are_found_where_an_evaluation_puts_them(runs):
    scores = runs[0].parent / "results" / "pass_rate"
    write_statuses(scores / "old_CoT@1", "G1_old_CoT@1", {"0": ["Solved"]})
    write_statuses(scores / "new_CoT@1", "G1_new_CoT@1", {"0": ["Unsolved"]})
    cells = row(data_of(runs), "G1/0")["cells"]
    assert [cell["status"] for cell in cells] == ["Solved", "Unsolved"]


def test_a_log_alone_gives_the_last_check_of_each_repeat(runs, tmp_path):
    verdicts = [
        verdict("0", 0, "Unsure", "Cannot tell."),
        verdict("0", 0, "Solved", "A call confirms it.", check="parse_answer_status"),
        verdict("0", 1, None, "Hmm."),
        verdict("1", 0, "1", check="select_better_answer"),
        verdict("1", 0, ["Solved"]),
        verdict("1", float("inf"), "Solved"),
    ]
    write_log(tmp_path / "scores", "G1_old", verdicts)
    data = data_of(runs, [tmp_path / "scores"])
    assert (row(data, "G1/0")["cells"][0]["status"], row(data, "G1/0")["cells"][0]["score"]) == ("Solved", 1.0)
    assert row(data, "G1/1")["cells"][0]["status"] is None


def test_what_was_said_of_an_answer_that_a_query_had_before_is_not_shown(tmp_path):
    said = [
        {**verdict("0", 0, "Solved", "of the old one"), "answer_sha256": "a"},
        {**verdict("0", 1, "Solved", "of the old one"), "answer_sha256": "a"},
        {**verdict("0", 0, "Unsolved", "of the new one"), "answer_sha256": "b"},
    ]
    write_log(tmp_path, "G1_old", said)
    judgement = read_judgements(tmp_path / "G1_old_verdicts.jsonl", tmp_path / "none").by_query["0"]
    assert judgement.statuses == {0: "Unsolved"}
    assert [each.reason for each in judgement.remarks] == ["of the new one"]


def test_a_query_without_an_answer_is_unsolved_where_its_set_was_judged(runs, tmp_path):
    answer(runs[0] / "G1", "5", [finish(GIVE_UP)])
    answer(runs[1] / "G1", "5", [finish()])
    write_statuses(tmp_path, "G1_old", {"0": ["Solved"]})
    write_statuses(tmp_path, "G1_new", {"5": ["Solved"]})
    data = data_of(runs, [tmp_path])
    assert row(data, "G1/5")["cells"][0]["status"] == "Unsolved"
    assert data["pairs"]["0-1"]["G1"]["solved"]["right_only"] == 1
    assert data["pairs"]["0-1"]["G2"]["solved"] is None


def test_a_folder_for_each_run_may_name_the_model_as_it_likes(runs, tmp_path):
    for place, word in (("one", "Solved"), ("two", "Unsolved")):
        write_statuses(tmp_path / place, "G1_whatever", {"0": [word]})
    data = data_of(runs, [tmp_path / "one", tmp_path / "two"])
    assert [cell["status"] for cell in row(data, "G1/0")["cells"]] == ["Solved", "Unsolved"]
    write_statuses(tmp_path / "one", "G1_other", {"0": ["Solved"]})
    with pytest.raises(ConfigError, match="several models for G1"):
        data_of(runs, [tmp_path / "one", tmp_path / "two"])


def test_where_two_runs_part_can_be_seen_from_their_paths(tmp_path):
    other_arguments = Move(arguments='{"city": "Oslo"}')
    answer(tmp_path / "a", "7", [Move(), Move(action="b_for_c"), finish()])
    answer(tmp_path / "b", "7", [Move(observation="rain"), other_arguments, finish()])
    [found] = data_of([tmp_path / "a", tmp_path / "b"])["rows"]
    one, other = (cell["path"] for cell in found["cells"])
    assert [x == y for x, y in zip(one[0], other[0], strict=True)] == [True, True, False]  # tool, call, reply
    assert one[1][0] != other[1][0]
    assert [found["tools"][tool] for tool, _, _ in one] == ["daily_forecast_for_sky_watch", "b_for_c", "Finish"]


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="needs ../shared/contract beside the checkout, found none")
def test_files_of_an_earlier_scoring_by_tooleval_are_read():
    data = data_of([EXAMPLE / "answer" / "tram-cot", EXAMPLE / "answer" / "tram-dfs"], [EXAMPLE / "pass_rate"])
    scores = {each["id"]: [cell["score"] for cell in each["cells"]] for each in data["rows"]}
    assert {query_id: found[0] for query_id, found in scores.items()} == {"5001": 1.0, "5002": 0.0, "5003": 0.5}
    assert data["pairs"]["0-1"]["*"]["solved"]["num_queries"] == 3


def test_the_page_is_the_same_for_the_same_runs(runs):
    first, second = data_of(runs), data_of(runs)
    assert first["pairs"] == second["pairs"]
    assert first["blocks"] == second["blocks"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["old", "old/../old"], "is given twice"),
        (["old", "empty"], "nothing to compare in"),
        (["old/G1", "else"], "no query in common"),
        (["old", "absent"], "cannot read"),
        (["old", "new", "--scores", "absent"], "is not a folder"),
        (["old", "--scores", "old"], "one folder is given"),
        (["old", "new", "--scores", "old", "new", "old"], "3 folders for 2 runs"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(runs, arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(runs[0].parent)
    Path("empty").mkdir()
    answer(Path("else"), "77", [finish()])
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n"), words in said.err) == ("", 1, True), said.err


def test_a_file_of_scores_that_cannot_be_read_is_named(runs, tmp_path):
    (tmp_path / "G1_old.json").write_text("{cut")
    with pytest.raises(DataError, match=r"G1_old\.json"):
        data_of(runs, [tmp_path])


def test_the_command_prints_where_the_page_is(runs, capsys):
    assert main([str(run) for run in runs]) == 0
    assert capsys.readouterr().out == f"{runs[0] / 'comparison.html'}\n"
    assert write_comparison(runs, runs[0] / "x.html").read_text().startswith("<!doctype html>")


def test_help_answers_without_numpy():
    program = (
        "import runpy, sys; sys.argv = ['run_report', '--help']\n"
        "try: runpy.run_module('evaluation.toolbench.inference.run_report', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'numpy' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "--scores" in done.stdout
