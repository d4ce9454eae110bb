"""Nothing is lost and nothing asked twice: after kill -9, Ctrl-C, more repeats, and files of ToolEval's own scoring."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections import Counter

import pytest

from tests.helpers.fake_judge import always
from tests.helpers.scoring import EXAMPLE

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
