import pytest

from evaluation.toolbench.inference.toolgen.attempts import AttemptPolicy


@pytest.mark.parametrize(
    ("enabled", "first", "expected"),
    [
        (False, 0.0, (0.0,)),
        (False, 0.7, (0.7,)),
        (True, 0.0, (0.0, 0.6, 1.0, 1.0, 1.0)),
        (True, 0.8, (0.8, 0.8, 1.0, 1.0, 1.0)),
    ],
)
def test_temperatures_of_the_attempts(enabled, first, expected):
    assert AttemptPolicy(enabled).temperatures(first) == expected


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"return_type": "give_up_and_restart"}', "give_up"),
        ("""{"final_answer": "I'm sorry, no."}""", "sorry"),
        ('{"final_answer": "We apologize."}', "sorry"),
        ('{"final_answer": "Sunny."}', None),
    ],
)
def test_what_finish_says_decides(arguments, reason):
    policy = AttemptPolicy(enabled=True)
    assert policy.reason(arguments, is_finish=True, is_repeated=False) == reason
    assert policy.reason(arguments, is_finish=False, is_repeated=False) is None


def test_reasons_can_be_switched_off():
    policy = AttemptPolicy(enabled=True, give_up=False, sorry=False)
    assert policy.reason("give_up_and_restart, and I'm sorry", is_finish=True, is_repeated=False) is None


@pytest.mark.parametrize(("repeated_call", "reason"), [(True, "actions"), (False, None)])
def test_a_call_made_before_is_tried_again_on_request(repeated_call, reason):
    policy = AttemptPolicy(enabled=True, repeated_call=repeated_call)
    assert policy.reason("{}", is_finish=False, is_repeated=True) == reason
