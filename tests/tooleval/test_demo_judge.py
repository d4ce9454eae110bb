"""The demo's own checker as a judge: deterministic, and without any server."""

from __future__ import annotations

import json

import pytest

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.demo.score import load_expected
from tests.helpers.scoring import finished_answer

EXPECTED = load_expected(DATA_DIR)


def right_answer(query_id, *, facts=None):
    """A converted answer with the calls and the facts that the demo expects."""
    expected = EXPECTED[query_id]
    text = " and ".join(expected["answer_contains"]) if facts is None else facts
    converted = finished_answer("q", json.dumps({"return_type": "give_answer", "final_answer": text}))
    [system] = converted["answer"]["answer_details"]
    [user] = system["next"]
    for call in reversed(expected["calls"]):
        message = {"name": call["name"], "arguments": json.dumps(call["arguments"]), "response": "{}"}
        user["next"] = [{"role": "tool", "message": message, "next": user["next"]}]
    return converted


def write(world, answers, ids):
    (world.converted / "tram-cot/G9_demo.json").write_text(json.dumps(answers))
    (world.ids / "G9_demo.json").write_text(json.dumps(dict.fromkeys(ids, 0)))


def test_right_and_wrong_answers_are_told_apart_without_a_server(world):
    write(world, {"1": right_answer("1"), "2": right_answer("2", facts="no idea")}, ["1", "2"])
    assert world.pass_rate(None, "--evaluator", "demo", "--evaluate_times", "1") == 0
    results = world.results()
    assert (results["solve_rate"], results["solve_rate_all"]) == (50, 50)
    assert results["judge"]["url"] is None
    by_id = {each["query_id"]: each for each in world.verdicts()}
    assert [by_id[query_id]["verdict"] for query_id in ("1", "2")] == ["Solved", "Unsolved"]
    assert "lacks" in by_id["2"]["reason"]


def test_a_query_that_is_not_the_demos_is_undecided(world, capsys):
    write(world, {"1": right_answer("1"), "x": right_answer("2")}, ["1", "x"])
    assert world.pass_rate(None, "--evaluator", "demo", "--evaluate_times", "1") == 1
    assert "knows no query x" in capsys.readouterr().err
    assert world.results()["queries"]["undecided"] == ["x"]


@pytest.mark.parametrize("flags", [(), ("--evaluate_times", "2")])
def test_every_expected_answer_of_the_demo_is_solved(world, flags):
    write(world, {query_id: right_answer(query_id) for query_id in EXPECTED}, EXPECTED)
    assert world.pass_rate(None, "--evaluator", "demo", *flags) == 0
    assert world.results()["solve_rate_all"] == 100
