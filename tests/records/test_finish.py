"""Finish: what its arguments mean, also when they are no proper JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.Downstream_tasks.functions import finish_function
from evaluation.toolbench.inference.records.finish import ABSENT, parse_finish
from tests.helpers.environment import ANSWER, GIVE_UP

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fragments = st.sampled_from(
    ['"return_type"', '"final_answer"', ":", " ", '"', "give_answer", "give_up_and_restart", ",", "{", "}", "\\", "\n"]
)


def test_finish_is_described_as_a_function():
    function = finish_function()["function"]
    assert list(function) == ["name", "description", "parameters"]
    assert function["name"] == "Finish"
    assert list(function["parameters"]["properties"]) == ["return_type", "final_answer"]
    assert function["parameters"]["properties"]["return_type"]["enum"] == ["give_answer", "give_up_and_restart"]
    assert function["parameters"]["required"] == ["return_type"]


@pytest.mark.parametrize(
    ("arguments", "observation", "code"),
    [
        (ANSWER, '{"response":"successfully giving the final answer."}', 3),
        (GIVE_UP, '{"response":"chose to give up and restart"}', 4),
        ('{"final_answer": "x"}', '{error:"must have "return_type""}', 2),
        ('{"return_type": "give_answer"}', '{error:"must have "final_answer""}', 2),
        ('{"return_type": "surrender"}', '{error:""return_type" is not a valid choice"}', 2),
        ("", '{error:"must have "return_type""}', 2),
    ],
)
def test_outcomes_are_told_in_the_words_models_know(arguments, observation, code):
    assert parse_finish(arguments).outcome() == (observation, code)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ('{"return_type":"give_answer","final_answer":"He said "hi"."}', 'He said "hi".'),
        ('{"return_type": "give_answer", "final_answer": "cut off in the mid', "cut off in the mid"),
        ('{"final_answer": "a "b" c", "return_type": "give_answer"}', 'a "b" c'),
        ('{"return_type": "give_answer", "final_answer": "line one\nline two"}', "line one\nline two"),
    ],
)
def test_answers_survive_bad_quotes_line_breaks_and_missing_ends(arguments, answer):
    finish = parse_finish(arguments)
    assert (finish.final_answer, finish.outcome()[1]) == (answer, 3)


@pytest.mark.parametrize("return_type", ["give_answer", "give_up_and_restart", ""])
def test_a_return_type_without_its_closing_quote_is_not_a_valid_choice(return_type):
    cut = f'{{"final_answer": "x", "return_type": "{return_type}'
    assert parse_finish(cut).outcome() == ('{error:""return_type" is not a valid choice"}', 2)


@given(st.text() | st.lists(fragments).map("".join))
def test_no_text_is_too_strange(arguments):
    observation, code = parse_finish(arguments).outcome()
    assert isinstance(observation, str)
    assert code in (2, 3, 4)


@given(return_type=json_values, final_answer=json_values, indent=st.sampled_from([None, 2]))
def test_valid_json_is_read_as_it_is(return_type, final_answer, indent):
    arguments = json.dumps({"return_type": return_type, "final_answer": final_answer}, indent=indent)
    finish = parse_finish(arguments)
    assert (finish.return_type, finish.final_answer) == (return_type, final_answer)


@given(json_values.filter(lambda value: not isinstance(value, dict)))
def test_json_that_is_no_object_has_no_arguments(value):
    finish = parse_finish(json.dumps(value))
    assert finish.return_type is ABSENT
    assert finish.outcome()[1] == 2


@given(st.text(st.characters(exclude_characters='"\\}', exclude_categories=["Cs"])))
def test_the_answer_of_unescaped_quotes_is_what_was_written(words):
    answer = f'"{words}" he said.'
    assert parse_finish(f'{{"return_type": "give_answer", "final_answer": "{answer}"}}').final_answer == answer
