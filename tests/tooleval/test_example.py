"""The recorded example of ToolEval's scoring: the same files and requests, but for what is meant to differ."""

from __future__ import annotations

import copy
import json

import pytest

from evaluation.toolbench.tooleval.judge.prompts import OWN_PROMPTS
from tests.helpers.scoring import EXAMPLE, recorded, replay

FILES = (".json", ".csv")


def comparable(request):
    """A request without our seed, with texts of others left out."""
    request = copy.deepcopy(request)
    request.pop("seed", None)
    for message in request["messages"]:
        message["content"] = ""
    [tool] = request["tools"]
    function = tool["function"]
    function["description"] = ""
    for value in function["parameters"]["properties"].values():
        value.pop("description", None)
    return request


def assert_same_requests(found, expected):
    assert [comparable(each) for each in found] == [comparable(each["request"]) for each in expected]
    assert [each["messages"][0]["content"] for each in found] == [
        OWN_PROMPTS[each["reply"]["function"]].format(**each["inserted"]) for each in expected
    ]


@pytest.mark.parametrize("model", ["tram-cot", "tram-dfs"])
def test_pass_rate_has_the_recorded_files(world, judge, model):
    requests = recorded(f"pass_rate_{model}")
    judge.model, judge.verdicts = "scripted-judge-1", replay(requests)
    assert world.pass_rate(judge, "--max_eval_threads", "1", model=model) == 0
    for ending in FILES:
        expected = (EXAMPLE / "pass_rate" / model / f"G9_demo_{model}{ending}").read_bytes()
        assert world.file(ending, model).read_bytes() == expected
    expected = json.loads((EXAMPLE / "pass_rate" / model / f"G9_demo_{model}_results.json").read_text())
    assert {key: world.results(model)[key] for key in expected} == expected
    assert_same_requests(judge.requests, requests)


def test_both_numbers_and_their_errors_are_in_the_results(world, judge, capsys):
    judge.verdicts = replay(recorded("pass_rate_tram-cot"))
    assert world.pass_rate(judge, "--max_eval_threads", "1") == 0
    results = world.results()
    numbers = [results[key] for key in ("solve_rate_all", "stderr_queries", "stderr_repeats")]
    assert [round(number, 2) for number in numbers] == [37.5, 23.94, 7.22]
    assert results["queries"] == {
        "test_ids": 4,
        "answered": 3,
        "without_judge": 1,
        "missing": ["5004"],
        "undecided": [],
    }
    assert results["tokens"] == {"requests": 8, "prompt": 800, "completion": 80}
    assert results["judge"]["model"] == results["judge"]["served_model"] == "fake-judge"
    printed = capsys.readouterr().out
    assert printed.startswith("Solve rate: 50.00% Std: 13.61%\n")
    assert "all 4 queries: 37.50%, standard error 23.94% over queries, 7.22% over repeats" in printed
    assert "1 without an answer, which count as unsolved: 5004" in printed


def test_table_of_queries_says_who_decided(world, judge):
    judge.verdicts = replay(recorded("pass_rate_tram-cot"))
    world.pass_rate(judge, "--max_eval_threads", "1")
    assert world.file("_queries.tsv").read_text().splitlines() == [
        "query_id\tstate\trepeat_0\trepeat_1\trepeat_2\tscore\ttotal_steps\tprompt_tokens\tcompletion_tokens",
        "5001\tjudged\tSolved\tSolved\tSolved\t1.0000\t4\t300\t30",
        "5002\tgave_up\tUnsolved\tUnsolved\tUnsolved\t0.0000\t6\t0\t0",
        "5003\tjudged\tUnsure\tSolved\tUnsolved\t0.5000\t4\t500\t50",
        "5004\tmissing\t\t\t\t0.0000\t\t0\t0",
    ]


def test_preference_has_the_recorded_files(world, judge):
    judge.model, judge.verdicts = "scripted-judge-1", replay(recorded("preference"))
    assert world.preference(judge, "--max_eval_threads", "1") == 0
    for ending in FILES:
        expected = EXAMPLE / "preference" / world.preference_file(ending).name
        assert world.preference_file(ending).read_bytes() == expected.read_bytes()
    expected = json.loads((EXAMPLE / "preference/G9_pairs_tram-dfs_tram-cot_results.json").read_text())
    results = json.loads(world.preference_file("_results.json").read_text())
    assert {key: results[key] for key in expected} == expected
    assert results["missing"] == {"tram-dfs": [], "tram-cot": []}
    assert results["order_changed"] == 0.0
    assert round(results["stderr_queries"], 4) == 0.3333


def test_preference_asks_what_was_recorded_but_whether_the_task_can_be_solved(world, judge):
    requests = [each for each in recorded("preference") if each["reply"]["function"] != "check_task_solvable"]
    judge.model, judge.verdicts = "scripted-judge-1", replay(requests)
    assert world.preference(judge, "--max_eval_threads", "1") == 0
    statuses = [each for each in requests if "answer" in each["inserted"]]
    asked = [each for each in judge.requests if "index" not in str(each["tools"])]
    asked_as_text, recorded_as_text = (
        sorted(json.dumps(comparable(each), sort_keys=True) for each in requests)
        for requests in (asked, [each["request"] for each in statuses])
    )
    assert asked_as_text == recorded_as_text
    assert len(judge.requests) - len(asked) == len(requests) - len(statuses)
    for request in judge.requests:
        if request not in asked:
            [pair] = {
                each["inserted"]["query"]
                for each in requests
                if "answer_0" in each["inserted"]
                and all(each["inserted"][f"answer_{n}"] in request["messages"][0]["content"] for n in (0, 1))
            }
            assert pair in request["messages"][0]["content"]


def test_order_of_the_answers_is_swapped_round_by_round(world, judge):
    judge.verdicts = replay(recorded("preference"))
    world.preference(judge, "--max_eval_threads", "1")
    selects = [each["messages"][0]["content"] for each in judge.requests if "index" in str(each["tools"])]
    by_query = {query: [text for text in selects if query in text] for query in ("case-5001", "case-5002")}
    for texts in by_query.values():
        first = ["(by dfs)" in text.split("Answer 1:")[0] for text in texts]
        assert first in ([True, False, True], [False, True, False])
