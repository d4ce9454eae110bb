"""The judge's prompts: found in checkouts by digest, else our own, named as such."""

from __future__ import annotations

import json

import pytest

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.tooleval.judge import prompts
from evaluation.toolbench.tooleval.judge.prompts import OWN_PROMPTS, load_fac_prompt, load_tooleval_prompts

CHECKS = ("check_answer_status", "parse_answer_status", "select_better_answer")
SLOTS = {"check_answer_status": "{query} {answer}", "parse_answer_status": "{query} {answer}"}
SLOTS["select_better_answer"] = "{query} {answer_0} {answer_1}"
TEXTS = {name: f"\nTheirs: {slots}\nJSON looks like {{{{}}}}.\n" for name, slots in SLOTS.items()}
DEFAULT = "tooleval_gpt-3.5-turbo_default"


def write_evaluator(folder, texts=TEXTS, newline="\n", config=None):
    folder.mkdir(parents=True)
    blocks = [f"<function>\n<name>{n}</name>\n<description>{t}</description>\n</function>\n" for n, t in texts.items()]
    (folder / "template.txt").write_bytes("\n".join(blocks).replace("\n", newline).encode())
    if config is not None:
        (folder / "config.yaml").write_text(config)
    return folder


@pytest.fixture
def published(monkeypatch):
    """As if the texts above were the published ones."""
    monkeypatch.setattr(prompts, "PUBLISHED", {name: prompts.text_sha256(text) for name, text in TEXTS.items()})


@pytest.mark.parametrize("place", ["evaluation/toolbench/tooleval/evaluators", "toolbench/tooleval/evaluators"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_prompts_are_found_in_either_checkout(tmp_path, published, place, newline):
    write_evaluator(tmp_path / place / DEFAULT, newline=newline)
    found = load_tooleval_prompts(DEFAULT, [tmp_path])
    assert found.texts == TEXTS
    assert (found.own, found.changed, found.note) == ((), (), "")


def test_a_prompt_under_another_folder_is_recognised_by_its_digest(tmp_path, published):
    write_evaluator(tmp_path / "toolbench/tooleval/evaluators/some_copy")
    assert load_tooleval_prompts(DEFAULT, [tmp_path]).texts == TEXTS


def test_an_unknown_text_under_another_folder_is_not_taken(tmp_path):
    write_evaluator(tmp_path / "toolbench/tooleval/evaluators/some_copy")
    found = load_tooleval_prompts(DEFAULT, [tmp_path])
    assert found.own == CHECKS
    assert "our own wording" in found.note


def test_an_evaluator_that_the_user_names_is_taken_as_it_is(tmp_path):
    write_evaluator(tmp_path / "toolbench/tooleval/evaluators/mine")
    found = load_tooleval_prompts("mine", [tmp_path])
    assert found.texts == TEXTS
    assert found.changed == CHECKS
    assert "differ from the published ones" in found.note


def test_a_block_with_other_slots_is_left_out(tmp_path):
    write_evaluator(tmp_path / "evaluators/mine", {**TEXTS, "check_answer_status": "\n{question}\n"})
    assert load_tooleval_prompts("mine", [tmp_path]).own == ("check_answer_status",)


def test_an_evaluator_that_is_nowhere_is_an_error_that_lists_the_others(tmp_path):
    write_evaluator(tmp_path / "evaluators/mine")
    with pytest.raises(ConfigError, match=f"use demo, fac, mine, {DEFAULT}"):
        load_tooleval_prompts("yours", [tmp_path])


def test_descriptions_and_model_come_from_the_evaluators_config(tmp_path):
    config = """
completions_kwargs:
  model: "their-model"
  functions:
    - name: "check_answer_status"
      description: "Their check."
      parameters: {properties: {answer_status: {type: string}}}
    - name: "select_better_answer"
      description: "Their choice."
      parameters: {properties: {index: {type: number, description: "Their index."}}}
"""
    write_evaluator(tmp_path / "evaluators" / DEFAULT, config=config)
    found = load_tooleval_prompts(DEFAULT, [tmp_path])
    assert found.model == "their-model"
    assert found.descriptions == {
        "check_answer_status": "Their check.",
        "select_better_answer": "Their choice.",
        "index": "Their index.",
    }


@pytest.mark.parametrize(
    "config", ["", "[1", "completions_kwargs: 3", "completions_kwargs: {functions: [1, {name: x}]}"]
)
def test_a_config_that_says_nothing_is_no_error(tmp_path, config):
    write_evaluator(tmp_path / "evaluators" / DEFAULT, config=config)
    found = load_tooleval_prompts(DEFAULT, [tmp_path])
    assert (found.model, found.descriptions) == (None, {})


def test_fac_prompt_is_found_without_running_its_file(tmp_path, monkeypatch):
    text = "Judge {query} by {answer}\u2019s worth"
    monkeypatch.setitem(prompts.PUBLISHED, "fac", prompts.text_sha256(text))
    folder = tmp_path / "toolbench/tooleval"
    folder.mkdir(parents=True)
    (folder / "fac_eval.py").write_text(f"import vllm\nPROMPT = {text!r}\nraise SystemExit\n")
    assert load_fac_prompt([tmp_path]).texts == {"fac": text}
    assert load_fac_prompt([tmp_path / "toolbench"]).own == ("fac",)


def test_own_prompts_take_the_values_and_results_name_them(world, judge):
    for name, text in OWN_PROMPTS.items():
        assert "{" not in text.format(query="", answer="", answer_0="", answer_1=""), name
    assert world.pass_rate(judge) == 0
    recorded = world.results()["judge"]
    assert recorded["own_prompts"] == list(CHECKS)
    assert recorded["prompts"] == {name: prompts.text_sha256(OWN_PROMPTS[name]) for name in CHECKS}


def test_a_checkouts_prompts_are_what_a_judge_is_asked(world, judge, tmp_path, published):
    config = json.dumps({"completions_kwargs": {"model": "fake-judge"}})
    write_evaluator(tmp_path / "checkout/evaluators" / DEFAULT, config=config)
    assert world.pass_rate(judge, "--judge_prompts", str(tmp_path / "checkout")) == 0
    assert judge.requests[0]["messages"][0]["content"].startswith("\nTheirs: case-500")
    assert world.results()["judge"]["own_prompts"] == []
