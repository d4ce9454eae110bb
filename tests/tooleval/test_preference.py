"""Comparing two models: who wins a round, and why."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.records.statuses import majority
from evaluation.toolbench.tooleval.preference import Pair, preference_rate, shown_order
from tests.helpers.scoring import finished_answer, judged_answer

MODELS = ("tram-dfs", "tram-cot")  # reference, candidate
GAVE_UP = finished_answer("q", json.dumps({"return_type": "give_up_and_restart"}))


def answer(text):
    return judged_answer("q", text)


@pytest.fixture
def compare(world, judge, capsys):
    """Compares answers to queries 1, 2, ...: (reference, candidate) each, None for a missing one."""

    def run(*pairs, code=0, flags=(), statuses=None):
        for position, model in enumerate(MODELS):
            answers = {str(n): pair[position] for n, pair in enumerate(pairs, start=1) if pair[position]}
            (world.converted / model / "G9_pairs.json").write_text(json.dumps(answers))
            if statuses:
                (world.pass_rates / model).mkdir(parents=True, exist_ok=True)
                entries = {
                    query_id: {"is_solved": {str(n): f"AnswerStatus.{word}" for n, word in enumerate(words)}}
                    for query_id, words in statuses[position].items()
                }
                (world.pass_rates / model / f"G9_pairs_{model}.json").write_text(json.dumps(entries))
        ids = {str(n): 0 for n in range(1, len(pairs) + 1)}
        (world.ids / "G9_pairs.json").write_text(json.dumps(ids))
        more = ("--use_pass_rate", "true") if statuses else ()
        assert world.preference(judge, *more, *flags) == code
        votes = json.loads(world.preference_file(".json").read_text())
        return {query_id: tuple(each[model] for model in MODELS) for query_id, each in votes.items()}

    return run


def results(world):
    return json.loads(world.preference_file("_results.json").read_text())


def labels(world):
    rows = world.preference_file(".csv").read_text().split("\n")
    return [row.split("\t")[6] for row in rows[1:] if row.count("\t") == 9]


def test_a_missing_answer_loses_and_two_missing_ones_tie(world, judge, compare):
    both = (answer("a"), answer("a"))
    assert compare(both, (None, answer("b")), (answer("c"), None), (None, None)) == {
        "1": (0, 0),
        "2": (0, 3),
        "3": (3, 0),
        "4": (0, 0),
    }
    assert results(world)["missing"] == {"tram-dfs": ["2", "4"], "tram-cot": ["3", "4"]}
    found = results(world)
    assert [found[key] for key in ("win_rate", "lose_rate", "tie_rate")] == [0.25, 0.25, 0.5]
    rounds = json.loads(world.preference_file(".json").read_text())["4"]
    assert [rounds[f"round_{number}"] for number in range(3)] == ["complete"] * 3
    assert all("index" not in str(each["tools"]) for each in judge.requests), "equal answers need no choice"


def test_the_higher_status_wins_without_a_choice(judge, compare):
    words = {"good": "Solved", "bad": "Unsolved", "odd": "Unsure"}
    judge.verdicts = lambda check, prompt: {
        "answer_status": next(word for text, word in words.items() if f'"{text}' in prompt or f'\\"{text}' in prompt)
    }
    votes = compare(
        (answer("good"), answer("bad")),
        (answer("bad"), answer("odd")),
        (answer("odd"), answer("good")),
        (GAVE_UP, GAVE_UP),
    )
    assert votes == {"1": (3, 0), "2": (0, 3), "3": (0, 3), "4": (0, 0)}


def test_a_judge_that_always_takes_the_first_one_is_found_out(world, judge, compare):
    judge.verdicts = lambda check, prompt: {"index": 0} if "select" in check else {"answer_status": "Solved"}
    votes = compare((answer("a"), answer("b")), (answer("c"), answer("d")))
    assert {tuple(sorted(each)) for each in votes.values()} == {(1, 2)}
    assert results(world)["order_changed"] == 1.0


def test_statuses_of_pass_rates_are_not_asked_again(judge, compare):
    pairs = [(answer(f"a{n}"), answer(f"b{n}")) for n in range(4)]
    judge.verdicts = lambda check, prompt: {"index": 0 if '\\"b' in prompt.split("Answer 1:")[0] else 1}
    votes = compare(
        *pairs,
        statuses=(
            {
                "1": ["Solved"] * 3,
                "2": ["Solved", "Unsolved"],
                "3": ["Unsolved", "Unsolved", "Solved"],
                "4": ["Solved"],
            },
            {"1": ["Unsure"] * 3, "2": ["Solved"] * 2, "3": ["Unsure"], "4": ["Solved"]},
        ),
    )
    assert votes == {"1": (3, 0), "2": (0, 3), "3": (0, 3), "4": (0, 3)}
    assert len(judge.requests) == 3, "only the equal ones, once a round"


def test_statuses_are_read_from_a_table_without_json(world, judge, compare):
    compare((answer("a"), answer("b")), statuses=({"1": ["Solved"]}, {"1": ["Unsolved"]}))
    for model in MODELS:
        stem = world.pass_rates / model / f"G9_pairs_{model}"
        status = "Solved" if model == "tram-dfs" else "Unsolved"
        stem.with_name(stem.name + ".json").unlink()
        table = f"query\tquery_id\tis_solved\r\nq\t1\t{{0: 'AnswerStatus.{status}'}}\r\n"
        stem.with_name(stem.name + ".csv").write_text(table, newline="")
    assert world.preference(judge, "--use_pass_rate", "true", "--overwrite") == 0
    assert results(world)["lose_rate"] == 1
    assert judge.requests == []


def test_a_round_without_a_choice_is_incomplete_and_no_other(world, judge, compare):
    judge.verdicts = lambda check, prompt: (
        {"index": 7 if '\\"a1' in prompt else 0} if "select" in check else {"answer_status": "Solved"}
    )
    compare((answer("a1"), answer("b1")), (answer("a2"), answer("b2")), code=1)
    record = json.loads(world.preference_file(".json").read_text())
    assert record["1"] == {"tram-dfs": 0, "tram-cot": 0} | {f"round_{n}": "incomplete" for n in range(3)}
    assert record["2"]["round_2"] == "complete"
    assert results(world)["undecided"] == ["1"]


def test_a_judge_of_preference_sees_a_thousand_characters_and_no_method(judge, compare):
    compare((answer("x" * 3000), answer("y" * 3000)))
    for request in judge.requests:
        [text] = [message["content"] for message in request["messages"]]
        start = text.index("x" * 900 if "x" * 900 in text else "y" * 900)
        assert start > 0
        if "index" in str(request["tools"]):
            assert '"method"' not in text
    status = next(each for each in judge.requests if "index" not in str(each["tools"]))
    assert "x" * 1001 not in status["messages"][0]["content"]


def test_the_table_has_a_row_for_every_query(world, compare):
    compare((answer("a"), answer("a")), (None, answer("b")), (answer("c"), None), (None, None))
    assert labels(world) == ["3", "2", "1", "3"]


@given(st.text(min_size=1, max_size=8), st.integers(0, 20))
def test_orders_are_swapped_round_by_round(query_id, number):
    assert shown_order(query_id, number) == shown_order(query_id, number + 1)[::-1]


@given(st.lists(st.sampled_from(["Solved", "Unsure", "Unsolved"]), min_size=1, max_size=9))
def test_majority_is_the_most_frequent_or_unsure(words):
    found = majority(words)
    most = max(words.count(word) for word in words)
    ahead = [word for word in set(words) if words.count(word) == most]
    assert found == (ahead[0] if len(ahead) == 1 else "Unsure")


@given(st.lists(st.lists(st.sampled_from(["reference", "candidate", "tie"]), min_size=1, max_size=4), min_size=1))
def test_rates_add_up_to_one(rounds):
    pairs = [Pair(str(n), None, None, dict(enumerate(winners))) for n, winners in enumerate(rounds)]
    rate = preference_rate(pairs)
    assert rate.win_rate + rate.lose_rate + rate.tie_rate == pytest.approx(1)
