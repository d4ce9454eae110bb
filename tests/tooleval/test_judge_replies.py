"""What a judge said: verdicts are read where they say one thing, and nowhere else."""

from __future__ import annotations

import json

import pytest

from evaluation.toolbench.chat_client.replies import Said, read_chat_reply
from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.time_limit import within
from evaluation.toolbench.tooleval.judge.checks import CHECK_ANSWER, CHECKS, SELECT_BETTER
from evaluation.toolbench.tooleval.judge.replies import read_verdict, read_words

STATUS, SELECT = CHECKS[CHECK_ANSWER], CHECKS[SELECT_BETTER]


def said(text="", called=None):
    return Said(text, called, "m", 0, 0)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("{", None), ('{"a":', None), ("not ", None), ("Solved ", "Solved"), ("Solved Unsolved ", None)],
)
def test_megabytes_of_the_same_words_keep_no_other_question_waiting(text, verdict):
    assert within(60, lambda: read_verdict(said(text * 500_000), STATUS))[0] == verdict


@pytest.mark.parametrize(
    ("check", "called", "verdict"),
    [
        (STATUS, '{"answer_status": "Solved", "reason": "r"}', "Solved"),
        (STATUS, '{"answer_status": "unsolved"}', "Unsolved"),
        (STATUS, '{"answer_status": "Partly"}', None),
        (STATUS, '{"answer_status": "Solv', None),
        (STATUS, '{"answer_status": "Unsolved", "reason": "it was never solved beca', "Unsolved"),
        (STATUS, '{"status": "Solved"}', None),
        (SELECT, '{"index": 1, "reason": "r"}', "1"),
        (SELECT, '{"index": 0.0}', "0"),
        (SELECT, '{"index": "1"}', "1"),
        (SELECT, '{"index": 1, "reas', "1"),
        (SELECT, '{"index": 2}', None),
        (SELECT, '{"index": true}', None),
    ],
)
def test_a_call_is_read(check, called, verdict):
    assert read_verdict(said(called=called), check)[0] == verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Solved", "Solved"),
        ("**Unsolved**\nIt solved nothing.", "Unsolved"),
        ("answer_status: Unsure\nIt may be solved.", "Unsure"),
        ("Answer Status\nUnsolved\nReason\nOnly half was solved", "Unsolved"),
        ("The answer status is Solved.", "Solved"),
        ('```json\n{"answer_status": "Solved", "reason": "unsolved parts are small"}\n```', "Solved"),
        ('Here: {"answer_status": "Unsure"} as asked', "Unsure"),
        ("<think>It is Unsolved, no, wait</think>\nSolved", "Solved"),
        ("I would say that this is unsolved.", "Unsolved"),
        ("The query was not solved.", None),
        ("It isn't really solved", None),
        ("Solved or Unsolved?", None),
        ("This is resolved.", None),
        ("I cannot tell", None),
        ("", None),
    ],
)
def test_text_is_read_where_it_says_one_thing(text, verdict):
    assert read_verdict(said(text), STATUS)[0] == verdict


def test_text_beside_a_call_without_a_verdict_is_read():
    assert read_verdict(said("answer_status: Solved", called="{}"), STATUS)[0] == "Solved"


def test_reason_is_the_argument_else_the_text():
    assert read_verdict(said(called='{"answer_status": "Solved", "reason": "why"}'), STATUS)[1] == "why"
    assert read_verdict(said("Solved because"), STATUS)[1] == "Solved because"


def test_fac_reads_the_word_behind_its_label_and_not_those_of_the_reason():
    words = ("Unsolved", "Solved")
    assert read_words("Answer Status\nSolved\nReason\nno part is unsolved", words, label="answer_status") == "Solved"
    assert read_words("It was resolved", words, label="answer_status") is None


def test_arguments_that_are_an_object_are_taken():
    call = {"function": {"name": "f", "arguments": {"answer_status": "Solved"}}}
    reply = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    called = read_chat_reply(reply).called
    assert called is not None
    assert json.loads(called) == {"answer_status": "Solved"}


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": [{"message": None}]}, {"error": {"message": "x"}}])
def test_what_is_not_a_completion_is_a_failure(reply):
    with pytest.raises(Failure, match="answered with"):
        read_chat_reply(reply)
