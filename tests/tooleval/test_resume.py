"""Nothing is lost and nothing asked twice: after kill -9, Ctrl-C, more repeats, and files of ToolEval's own scoring."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections import Counter

import pytest

from tests.helpers.fake_judge import always
from tests.helpers.scoring import EXAMPLE, MODEL, SET, judged_answer

AT_ONCE = 4


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 20))])
def test_kill_9_loses_no_verdict_and_asks_none_twice_but_for_those_in_flight(world, judge, seed):
    rng = random.Random(seed)
    ids = world.write_answers(10)
    judge.delay_s = 0.02
    judge.verdicts = lambda check, prompt: {"answer_status": "Unsure" if "7003" in prompt else "Solved"}
    for _ in range(2):
        goal = len(judge.requests) + rng.randint(1, 14)
        process = world.start_pass_rate(judge, "--max_eval_threads", str(AT_ONCE))
        wait_for(lambda goal=goal: len(judge.requests) >= goal, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = world.start_pass_rate(judge, "--max_eval_threads", str(AT_ONCE))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors

    asked = Counter(each["seed"] for each in judge.requests)
    assert len(asked) == 33  # 3 of each query, and 3 more for the one that stays unsure
    assert sum(asked.values()) - len(asked) <= 2 * AT_ONCE
    verdicts = [line for line in world.file("_verdicts.jsonl").read_text().splitlines() if line.endswith("}")]
    logged = Counter(json.loads(line)["seed"] for line in verdicts)
    assert logged.keys() == asked.keys()
    assert set(logged.values()) == {1}
    assert list(json.loads(world.file(".json").read_text())) == ids
    assert world.results()["solve_rate"] == pytest.approx(95)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_questions_in_flight_and_the_command_goes_on(world, judge, number):
    world.write_answers(20)
    judge.delay_s = 0.05
    process = world.start_pass_rate(judge, "--max_eval_threads", str(AT_ONCE))
    wait_for(lambda: len(judge.requests) > 6, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "verdicts are kept: the same command goes on from there" in errors
    kept = len(world.verdicts())
    assert kept == len(judge.requests), "what was in flight was waited for"
    judge.delay_s = 0
    assert world.pass_rate(judge) == 0
    assert len(judge.requests) == 60


def test_a_second_start_asks_nothing_and_writes_the_same(world, judge):
    assert world.pass_rate(judge) == 0
    files = {path.name: path.read_bytes() for path in world.pass_rates.rglob("*") if path.is_file()}
    judge.requests.clear()
    assert world.pass_rate(judge) == 0
    assert judge.requests == []
    assert {path.name: path.read_bytes() for path in world.pass_rates.rglob("*") if path.is_file()} == files


def test_more_repeats_ask_for_those_that_lack(world, judge):
    assert world.pass_rate(judge, "--evaluate_times", "1") == 0
    assert len(judge.requests) == 2
    assert world.pass_rate(judge, "--evaluate_times", "4") == 0
    assert len(judge.requests) == 8
    assert world.results()["solve_rate"] == pytest.approx(200 / 3)
    assert world.results()["std_dev"] == 0


def change_answer(world, query_id):
    path = world.converted / MODEL / f"{SET}.json"
    answers = json.loads(path.read_text())
    answers[query_id] = judged_answer(f"Question {query_id}?", "Another answer.")
    path.write_text(json.dumps(answers))


def test_an_answer_that_has_changed_is_judged_anew_and_no_other(world, judge, capsys):
    world.write_answers(3)
    assert world.pass_rate(judge) == 0
    change_answer(world, "7001")
    judge.verdicts = lambda check, prompt: {"answer_status": "Unsolved" if "Another answer." in prompt else "Solved"}
    judge.requests.clear()
    assert world.pass_rate(judge) == 0
    assert len(judge.requests) == 3
    assert world.results()["solve_rate"] == pytest.approx(200 / 3)
    assert "has verdicts of answers that have changed since: they are asked anew" in capsys.readouterr().err
    judge.requests.clear()
    assert world.pass_rate(judge) == 0
    assert judge.requests == []
    assert "changed since" not in capsys.readouterr().err


def test_an_answer_that_no_judge_was_asked_about_is_judged_once_it_can_be(world, judge):
    world.write_answers(1)
    path = world.converted / MODEL / f"{SET}.json"
    given_up = path.read_text().replace("give_answer", "give_up_and_restart")
    path.write_text(given_up)
    assert world.pass_rate(judge) == 0
    assert (world.results()["solve_rate"], judge.requests) == (0, [])
    change_answer(world, "7000")
    assert world.pass_rate(judge) == 0
    assert (world.results()["solve_rate"], len(judge.requests)) == (100, 3)


@pytest.mark.parametrize("word", ['"solved!"', "1", '["Solved"]', '"0"'])
def test_a_line_of_the_log_without_a_verdict_is_asked_for_again(world, judge, word):
    world.write_answers(2)
    assert world.pass_rate(judge) == 0
    log = world.file("_verdicts.jsonl")
    log.write_text(log.read_text().replace('"verdict":"Solved"', f'"verdict":{word}', 2))
    judge.requests.clear()
    assert world.pass_rate(judge) == 0
    assert len(judge.requests) == 2
    assert world.results()["solve_rate"] == 100


def test_toolevals_own_files_are_a_start(world, judge, capsys):
    shutil.copytree(EXAMPLE / "pass_rate" / "tram-cot", world.pass_rates / "tram-cot")
    judge.verdicts = always(answer_status="Solved")
    assert world.pass_rate(judge) == 0
    assert judge.requests == []
    expected = json.loads((EXAMPLE / "pass_rate/tram-cot/G9_demo_tram-cot_results.json").read_text())
    assert {key: world.results()[key] for key in expected} == expected
    assert world.results()["judge"]["earlier_verdicts"] == 6
    assert "6 verdicts are taken from an earlier scoring" in capsys.readouterr().err
    for ending in (".json", ".csv"):
        assert (
            world.file(ending).read_bytes() == (EXAMPLE / f"pass_rate/tram-cot/G9_demo_tram-cot{ending}").read_bytes()
        )
    assert world.pass_rate(judge, "--evaluate_times", "4") == 0
    assert len(judge.requests) == 2, "the fourth repeat of two queries"


def test_a_partial_file_of_tooleval_is_completed(world, judge):
    shutil.copytree(EXAMPLE / "pass_rate" / "tram-cot", world.pass_rates / "tram-cot")
    record = json.loads(world.file(".json").read_text())
    del record["5001"]["is_solved"]["2"]
    record["9999"] = record.pop("5003")
    world.file(".json").write_text(json.dumps(record))
    assert world.pass_rate(judge) == 0
    assert len(judge.requests) == 1 + 3
    assert list(json.loads(world.file(".json").read_text())) == ["5001", "5002", "5003"], "only the set's own ids"


def test_toolevals_votes_are_a_start_but_for_incomplete_rounds(world, judge):
    world.preferences.mkdir()
    shutil.copy(EXAMPLE / "preference/G9_pairs_tram-dfs_tram-cot.json", world.preferences)
    record = json.loads(world.preference_file(".json").read_text())
    record["5002"].update({"tram-dfs": 9, "round_2": "incomplete"})
    world.preference_file(".json").write_text(json.dumps(record))
    judge.verdicts = lambda check, prompt: {"index": 0} if "5002" in prompt else {"answer_status": "Solved"}
    assert world.preference(judge) == 0
    assert {query for query in ("5001", "5002", "5003") for each in judge.requests if query in str(each)} == {"5002"}
    votes = json.loads(world.preference_file(".json").read_text())
    assert [votes["5003"][model] for model in ("tram-dfs", "tram-cot")] == [1, 2]
    assert sum(votes["5002"][model] for model in ("tram-dfs", "tram-cot")) == 3


def test_toolevals_votes_have_the_same_result_in_fewer_rounds(world, judge):
    name = "G9_pairs_tram-dfs_tram-cot"
    world.preferences.mkdir()
    shutil.copy(EXAMPLE / f"preference/{name}.json", world.preferences)
    assert world.preference(judge, "--evaluate_times", "1") == 0
    assert judge.requests == []
    expected = json.loads((EXAMPLE / f"preference/{name}_results.json").read_text())
    found = json.loads(world.preference_file("_results.json").read_text())
    assert {key: found[key] for key in expected} == expected


def test_restarts_of_preference_change_nothing(world, judge):
    assert world.preference(judge) == 0
    files = {path.name: path.read_bytes() for path in world.preferences.iterdir()}
    judge.requests.clear()
    assert world.preference(judge) == 0
    assert judge.requests == []
    assert {path.name: path.read_bytes() for path in world.preferences.iterdir()} == files


def test_rounds_that_pass_rates_decide_follow_them_when_these_change(world, judge):
    for model, status in (("tram-dfs", "Solved"), ("tram-cot", "Unsolved")):
        write_statuses(world, model, status)
    assert world.preference(judge, "--use_pass_rate", "true") == 0
    assert win_rate(world) == 0
    for model, status in (("tram-dfs", "Unsolved"), ("tram-cot", "Solved")):
        write_statuses(world, model, status)
    assert world.preference(judge, "--use_pass_rate", "true") == 0
    assert win_rate(world) == 1
    assert judge.requests == []


def write_statuses(world, model, status):
    path = world.file(".json", model, "G9_pairs")
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = json.loads((world.ids / "G9_pairs.json").read_text())
    path.write_text(json.dumps({each: {"is_solved": {"0": f"AnswerStatus.{status}"}} for each in ids}))


def win_rate(world):
    return json.loads(world.preference_file("_results.json").read_text())["win_rate"]
