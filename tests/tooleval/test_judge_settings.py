"""Where the judge is: flags, environment, pool file; and which key goes where."""

from __future__ import annotations

import json

import pytest

from evaluation.toolbench.chat_client.settings import choose_model
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.tooleval.judge.settings import JudgeSettings


def servers(environment, **flags):
    return [(str(each.url), each.api_key) for each in JudgeSettings.of(environment, **flags).servers]


def test_a_flag_goes_before_the_environment():
    environment = {"JUDGE_URL": "http://b:1", "OPENAI_BASE_URL": "http://c:1", "JUDGE_API_KEY": "k"}
    assert servers(environment, url="http://a:1") == [("http://a:1/v1", "k")]
    assert servers(environment) == [("http://b:1/v1", "k")]


def test_a_key_goes_only_to_the_server_that_it_is_for():
    environment = {"OPENAI_KEY": "for-openai", "API_POOL_FILE": "/nowhere"}
    assert servers(environment, url="http://local:8000/v1") == [("http://local:8000/v1", "")]


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_BASE"])
def test_a_base_url_needs_no_key(name):
    assert servers({name: "http://local:8000"}) == [("http://local:8000/v1", "")]
    assert servers({name: "http://local:8000", "OPENAI_KEY": "k"}) == [("http://local:8000/v1", "k")]


def test_a_key_alone_means_openai():
    assert servers({"OPENAI_API_KEY": "k"}) == [("https://api.openai.com/v1", "k")]


def test_a_pool_and_one_more_key_are_used_in_turn(tmp_path):
    pool = tmp_path / "pool.json"
    pool.write_text(json.dumps([{"api_key": "a", "api_base": "https://x.org/api/paas/v4"}, {"api_key": "b"}]))
    assert servers({"API_POOL_FILE": str(pool), "OPENAI_KEY": "c"}) == [
        ("https://x.org/api/paas/v4", "a"),
        ("https://api.openai.com/v1", "b"),
        ("https://api.openai.com/v1", "c"),
    ]


def test_models_go_flag_then_judge_model_then_eval_model():
    environment = {"JUDGE_URL": "http://a", "JUDGE_MODEL": "b", "EVAL_MODEL": "c"}
    assert JudgeSettings.of(environment, model="a").model == "a"
    assert JudgeSettings.of(environment).model == "b"
    assert JudgeSettings.of({"JUDGE_URL": "http://a", "EVAL_MODEL": "c"}).model == "c"


def test_keys_are_not_in_what_is_printed_of_settings():
    settings = JudgeSettings.of({"JUDGE_URL": "http://a", "JUDGE_API_KEY": "very-secret"})
    assert "very-secret" not in repr(settings)


@pytest.mark.parametrize(("served", "model"), [([], "default"), (["x", "default"], "default"), (["x"], "x")])
def test_the_model_is_the_evaluators_else_the_only_one(served, model):
    assert choose_model("default", served, whose="the judge's", remedy="") == model


def test_several_models_without_a_name_are_a_question_to_the_user():
    with pytest.raises(ConfigError, match="has 2 models \\(x, y\\) and not default: name one"):
        choose_model("default", ["x", "y"], whose="the judge's", remedy="name one")
