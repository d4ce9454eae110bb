"""Judges as they are: slow, busy, broken, with other words, asked in other ways, dead in the middle, somebody else."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import replace

import pytest

from evaluation.toolbench.http_client.retry import RetryPolicy
from evaluation.toolbench.tooleval.judge.interface import Question
from evaluation.toolbench.tooleval.judge.prompts import OWN_PROMPTS
from evaluation.toolbench.tooleval.judge.settings import JudgeSettings
from tests.helpers.fake_generation_server import error_answer, json_answer, running
from tests.helpers.fake_judge import FakeJudge, always, way_of
from tests.helpers.scoring import complaints, finished_answer

SOLVED = ["AnswerStatus.Solved"] * 3


def statuses(world):
    record = json.loads(world.file(".json").read_text())
    return {query_id: list(entry["is_solved"].values()) for query_id, entry in record.items()}


@pytest.fixture
def three(world):
    """A world with three answers that only a judge decides about."""
    world.write_answers(3)
    return world


@pytest.fixture
def patience(monkeypatch):
    """Sets how long a judge that has gone is waited for."""
    make = JudgeSettings.of
    return lambda seconds: monkeypatch.setattr(
        JudgeSettings, "of", lambda *args, **more: replace(make(*args, **more), patience_s=seconds)
    )


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(RetryPolicy, "wait_s", lambda *_: 0.01)


def test_every_reply_is_kept_with_what_it_cost(three, judge):
    assert three.pass_rate(judge) == 0
    verdicts = three.verdicts()
    expected = {(query_id, repeat) for query_id in ("7000", "7001", "7002") for repeat in range(3)}
    assert {(each["query_id"], each["repeat"]) for each in verdicts} == expected
    assert len(verdicts) == len({each["seed"] for each in verdicts}) == 9
    assert {each["seed"] for each in verdicts} == {each["seed"] for each in judge.requests}
    first = verdicts[0]
    assert list(first)[:9] == [
        *("query_id", "repeat", "check", "verdict", "reason", "prompt_sha256", "model", "seed", "tokens"),
    ]
    assert (first["check"], first["verdict"], first["reason"]) == ("check_answer_status", "Solved", "looks right")
    assert first["tokens"] == {"prompt": 100, "completion": 10}


def test_seeds_are_the_same_on_every_machine():
    assert Question("5001", 2, "check_answer_status", ()).seed(0) == 1892113800


@pytest.mark.parametrize("num_at_once", [1, 4, 64])
def test_requests_in_flight_change_nothing_but_the_time(three, judge, num_at_once):
    judge.delay_s = 0.05
    judge.verdicts = lambda check, prompt: {"answer_status": "Unsure" if "7001" in prompt else "Solved"}
    assert three.pass_rate(judge, "--max_eval_threads", str(num_at_once)) == 0
    assert judge.most_at_once <= num_at_once
    assert (judge.most_at_once > 1) == (num_at_once > 1)
    assert statuses(three) == {"7000": SOLVED, "7001": ["AnswerStatus.Unsure"] * 3, "7002": SOLVED}
    questions = [
        Question(query_id, repeat, check, ())
        for query_id in ("7000", "7001", "7002")
        for repeat in range(3)
        for check in ("check_answer_status", "parse_answer_status")[: 2 if query_id == "7001" else 1]
    ]
    assert {each["seed"] for each in judge.requests} == {question.seed(0) for question in questions}


@pytest.mark.parametrize(
    ("refused", "way"), [({"tool"}, "schema"), ({"tool", "schema"}, "choice"), ({"tool", "schema", "choice"}, "text")]
)
def test_a_judge_that_refuses_one_way_is_asked_in_the_next(three, judge, capsys, refused, way):
    judge.refuses = frozenset(refused)
    assert three.pass_rate(judge, "--max_eval_threads", "1") == 0
    assert three.results()["solve_rate"] == 100
    assert three.results()["judge"]["constraint"] == way
    assert [way_of(each) for each in judge.requests].count(way) == 9
    assert len(judge.requests) == 9 + len(refused), "once one way works, the others are not tried again"
    assert f"it is asked by {way}" in capsys.readouterr().err


def test_a_judge_that_refuses_every_way_is_quoted_on_the_question_without_a_constraint(three, judge, capsys):
    judge.refuses = frozenset({"tool", "schema", "choice", "text"})  # of a model without a chat template, say
    assert three.pass_rate(judge, "--evaluate_times", "1") == 1
    assert "the judge answered with status 400: text is not supported" in capsys.readouterr().err


def test_a_way_that_the_user_names_is_the_only_one(three, judge):
    assert three.pass_rate(judge, "--judge_constraint", "choice") == 0
    assert {way_of(each) for each in judge.requests} == {"choice"}


def test_a_judge_that_ignores_the_function_is_read_and_that_is_said_once(three, judge, capsys):
    judge.says = "answer_status: Solved\nIt is what was asked for."
    assert three.pass_rate(judge) == 0
    assert three.results()["solve_rate"] == 100
    assert capsys.readouterr().err.count("its text is read instead") == 1


def test_other_words_are_asked_for_again_with_the_next_seed(three, judge):
    request = {"model": "fake-judge", "messages": [{"content": ""}]}
    judge.upcoming = deque([json_answer(FakeJudge(says="maybe").completion(request, "text"))] * 2)
    assert three.pass_rate(judge, "--max_eval_threads", "1") == 0
    first = [each for each in three.verdicts() if (each["query_id"], each["repeat"]) == ("7000", 0)]
    assert [each["verdict"] for each in first] == [None, None, "Solved"]
    assert len({each["seed"] for each in first}) == 3
    assert three.results()["tokens"]["requests"] == 11


def test_a_query_without_a_verdict_is_undecided_and_no_other(three, judge, capsys):
    judge.verdicts = lambda check, prompt: {"answer_status": "Perhaps" if "7001" in prompt else "Solved"}
    assert three.pass_rate(judge) == 1
    assert statuses(three) == {"7000": SOLVED, "7001": [], "7002": SOLVED}
    assert three.results()["queries"]["undecided"] == ["7001"]
    assert "\n7001\tundecided\t\t\t\t0.0000\t" in three.file("_queries.tsv").read_text()
    assert "query 7001, repeat 0 stays undecided" in capsys.readouterr().err

    judge.verdicts = always(answer_status="Unsolved")
    earlier = {each["seed"] for each in judge.requests}
    judge.requests.clear()
    assert three.pass_rate(judge) == 0, "another start asks it once more"
    assert len(judge.requests) == 3
    assert not earlier & {each["seed"] for each in judge.requests}
    assert statuses(three)["7001"] == ["AnswerStatus.Unsolved"] * 3


def test_a_reason_that_is_missing_is_no_error(three, judge):
    judge.verdicts = always(answer_status="Solved")
    assert three.pass_rate(judge) == 0
    assert {each["reason"] for each in three.verdicts()} == {""}


@pytest.mark.parametrize(
    "trouble",
    [
        error_answer(429, "slow down"),
        error_answer(500, "oops"),
        error_answer(503, "loading"),
        (200, "application/json", b'{"choices": [{"message": {"content": "Solv'),
        (200, "text/html", b"<html>sign in</html>"),
        json_answer({"choices": []}),
        json_answer({"error": {"message": "engine died"}}),
    ],
    ids=["429", "500", "503", "cut JSON", "HTML", "no choice", "error in the body"],
)
def test_trouble_is_retried_and_costs_no_verdict(three, judge, trouble):
    judge.upcoming = deque([trouble] * 4)
    assert three.pass_rate(judge) == 0
    assert three.results()["solve_rate"] == 100
    assert len(judge.requests) == 9 + 4
    assert len(three.verdicts()) == 9


def test_a_question_that_is_refused_is_undecided_at_once(three, judge):
    judge.upcoming = deque([None, error_answer(400, "This model's maximum context length is 10 tokens")])
    assert three.pass_rate(judge, "--evaluate_times", "1", "--max_eval_threads", "1") == 1
    assert three.results()["queries"]["undecided"] == ["7001"]
    assert len(judge.requests) == 3


def test_a_judge_that_sends_byte_by_byte_is_waited_for(three, judge):
    judge.trickle_s = 0.001
    assert three.pass_rate(judge, "--evaluate_times", "1") == 0
    assert len(judge.requests) == 3


def test_a_time_limit_of_the_user_is_kept(three, judge, capsys):
    judge.delay_s = 0.5
    assert three.pass_rate(judge, "--evaluate_times", "1", "--judge_timeout", "0.05") == 1
    assert "did not answer within 0.05 s" in capsys.readouterr().err


def test_a_judge_that_dies_in_the_middle_has_lost_nothing(world, capsys, patience):
    patience(0.3)
    world.write_answers(20)
    with running(FakeJudge()) as judge:
        judge.dies_after = 11
        assert world.pass_rate(judge, "--max_eval_threads", "2") == 1
    kept = len(world.verdicts())
    assert kept in (10, 11), "but for what was in flight"
    [line] = complaints(capsys)
    assert f"{kept} verdicts are kept: the same command goes on from there" in line
    assert not world.file("_results.json").exists()
    with running(FakeJudge()) as judge:
        assert world.pass_rate(judge) == 0
        assert len(judge.requests) == 60 - kept, "nothing is asked twice"
    assert world.results()["solve_rate"] == 100


def test_a_judge_that_comes_back_is_gone_on_with(world):
    world.write_answers(20)
    with running(FakeJudge(dies_after=20)) as judge:
        port = int(judge.url.rpartition(":")[2].removesuffix("/v1"))
        process = world.start_pass_rate(judge, "--max_eval_threads", "2")
        while judge.replied < 20:
            assert process.poll() is None, process.communicate()
            threading.Event().wait(0.01)
    with running(FakeJudge(), port=port):
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert world.results()["solve_rate"] == 100
    assert len(world.verdicts()) == 60


def test_another_model_after_a_restart_is_noticed(three, judge, capsys):
    assert three.pass_rate(judge, "--evaluate_times", "1") == 0
    judge.served_as = "somebody-else"
    capsys.readouterr()
    assert three.pass_rate(judge, "--evaluate_times", "2") == 1
    [line] = complaints(capsys)
    assert "answers as somebody-else now" in line
    assert len(three.verdicts()) == 3


def test_another_judge_over_the_same_files_is_refused_until_overwrite(three, judge, capsys):
    assert three.pass_rate(judge, "--evaluate_times", "1") == 0
    with running(FakeJudge(model="other", verdicts=always(answer_status="Unsolved"))) as other:
        capsys.readouterr()
        assert three.pass_rate(other, "--evaluate_times", "1") == 2
        [line] = complaints(capsys)
        assert "fake-judge" in line
        assert "--overwrite" in line
        assert other.requests == []
        assert three.pass_rate(other, "--evaluate_times", "1", "--overwrite") == 0
    assert three.results()["solve_rate"] == 0
    assert three.file("_verdicts.1.jsonl").exists(), "the verdicts that were paid for are kept"


def test_other_prompts_over_the_same_files_are_refused(three, judge, tmp_path, capsys):
    assert three.pass_rate(judge, "--evaluate_times", "1") == 0
    evaluator = tmp_path / "checkout/evaluators/tooleval_gpt-3.5-turbo_default"
    evaluator.mkdir(parents=True)
    (evaluator / "template.txt").write_text(
        "<function><name>check_answer_status</name>"
        f"<description>Other{OWN_PROMPTS['check_answer_status']}</description></function>"
    )
    capsys.readouterr()
    assert three.pass_rate(judge, "--evaluate_times", "1", "--judge_prompts", str(tmp_path / "checkout")) == 2
    [line] = complaints(capsys)
    assert "another prompt of check_answer_status" in line


def test_results_of_another_judge_beside_it_are_pointed_out(three, judge, capsys):
    assert three.pass_rate(judge, "--evaluate_times", "1") == 0
    three.write_answers(2, test_set="G8_demo")
    with running(FakeJudge(model="other")) as other:
        capsys.readouterr()
        assert three.pass_rate(other, "--evaluate_times", "1", sets=["G8_demo"]) == 0
    assert "G9_demo_tram-cot_results.json beside it is by another judge, fake-judge" in capsys.readouterr().err


def test_a_wrong_key_in_the_pool_leaves_the_other_servers(three, judge, tmp_path, monkeypatch, capsys):
    judge.api_key = "right-key"
    pool = [{"api_key": key, "api_base": judge.url} for key in ("wrong-key", "right-key")]
    (tmp_path / "pool.json").write_text(json.dumps(pool))
    monkeypatch.setenv("API_POOL_FILE", str(tmp_path / "pool.json"))
    assert three.pass_rate(None, "--judge_model", "fake-judge") == 0
    printed = capsys.readouterr()
    assert "refuses the key" in printed.err
    written = [path.read_text() for path in three.pass_rates.rglob("*") if path.is_file()]
    assert all("-key" not in text for text in (printed.err, printed.out, *written))


def test_answers_that_no_judge_is_needed_for_are_told_apart(world, judge):
    give = {"return_type": "give_answer"}
    answers = {
        "1": finished_answer("q", "{}", name="tool"),
        "2": finished_answer("q", json.dumps({**give, "final_answer": ""})),
        "3": finished_answer("q", json.dumps({"return_type": "give_up_and_restart"})),
        "4": finished_answer("q", json.dumps({**give, "final_answer": "Never give_up_and_restart!"})),
        "5": finished_answer("q", json.dumps(give)),
        "6": finished_answer("q", "not JSON at all"),
    }
    (world.converted / "tram-cot/G9_demo.json").write_text(json.dumps(answers))
    (world.ids / "G9_demo.json").write_text(json.dumps(dict.fromkeys(answers, 0)))
    assert world.pass_rate(judge, "--evaluate_times", "1") == 0
    rows = [line.split("\t")[:3] for line in world.file("_queries.tsv").read_text().splitlines()[1:]]
    assert rows == [
        ["1", "no_finish", "Unsolved"],
        ["2", "empty", "Unsolved"],
        ["3", "gave_up", "Unsolved"],
        ["4", "judged", "Solved"],
        ["5", "empty", "Unsolved"],
        ["6", "judged", "Solved"],
    ]
    assert len(judge.requests) == 2


def test_texts_that_utf8_cannot_carry_are_written(world, judge):
    (world.ids / "G9_demo.json").write_text('{"1": 0}')
    (world.converted / "tram-cot/G9_demo.json").write_text(
        json.dumps({"1": finished_answer("half a \ud83d smile", '{"final_answer": "\udc00 \U0001f600"}')})
    )
    assert world.pass_rate(judge) == 0
    assert "half a \ufffd smile" in world.file(".csv").read_text()


def test_every_id_is_a_row_whatever_is_in_it(world, judge):
    ids = ["7\t8", "7\r\n8", "\ud83d", "", "../7"]
    (world.ids / "G9_demo.json").write_text(json.dumps(dict.fromkeys(ids, 0)))
    answers = {query_id: finished_answer("Why?", '{"final_answer": "So."}') for query_id in ids}
    (world.converted / "tram-cot/G9_demo.json").write_text(json.dumps(answers))
    assert world.pass_rate(judge) == 0
    rows = world.file("_queries.tsv").read_text().removesuffix("\n").split("\n")
    assert [row.count("\t") for row in rows] == [8] * 6
    judge.requests.clear()
    assert world.pass_rate(judge) == 0
    assert judge.requests == []


def test_a_models_name_is_no_pattern(world, judge):
    (world.converted / "**").mkdir()
    answers = {"1": finished_answer("Why?", '{"final_answer": "So."}')}
    (world.converted / "**/G9_demo.json").write_text(json.dumps(answers))
    (world.ids / "G9_demo.json").write_text('{"1": 0}')
    assert world.pass_rate(judge, model="**") == 0
    assert world.results(model="**")["solve_rate"] == 100


def test_fac_asks_its_own_prompt_and_reads_its_form(three, judge):
    judge.says = "Answer Status\nSolved\nReason\nno part stays unsolved"
    assert three.pass_rate(judge, "--evaluator", "fac", "--evaluate_times", "1") == 0
    assert three.results()["solve_rate"] == 100
    assert list(three.results()["judge"]["prompts"]) == ["fac"]
    request = judge.requests[0]
    assert (request["temperature"], request["max_tokens"]) == (0, 512)
    assert way_of(request) == "text"
    assert request["messages"][0]["content"].startswith(OWN_PROMPTS["fac"].split("{")[0])
