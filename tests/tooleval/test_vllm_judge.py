"""A real judge: vLLM on this processor, with the demo's model, which only the constraint holds to the words."""

from __future__ import annotations

import json

import pytest

from evaluation.toolbench.demo import MODEL_DIR
from tests.helpers.vllm import VllmServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason=f"no model in {MODEL_DIR}"),
]
STATUSES = {"Solved", "Unsure", "Unsolved"}


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    template = folder / "chat.jinja"
    template.write_text("{% for message in messages %}{{ message['content'] }}\n{% endfor %}")
    server = VllmServer(MODEL_DIR, folder, "--chat-template", str(template), "--served-model-name", "demo")
    server.start()
    server.wait()
    yield server
    server.end()


@pytest.mark.parametrize(("constraint", "used"), [("auto", None), ("schema", "schema"), ("choice", "choice")])
def test_every_verdict_is_an_allowed_word(world, vllm, constraint, used):
    assert world.pass_rate(vllm, "--judge_constraint", constraint) == 0
    verdicts = world.verdicts()
    assert {(each["query_id"], each["repeat"]) for each in verdicts} >= {
        (query_id, repeat) for query_id in ("5001", "5003") for repeat in range(3)
    }
    assert {each["verdict"] for each in verdicts} <= STATUSES
    assert all(each["tokens"]["prompt"] > 100 for each in verdicts)
    judge = world.results()["judge"]
    assert (judge["model"], judge["served_model"]) == ("demo", "demo"), "the only model that is served"
    assert judge["constraint"] in ({used} if used else {"tool", "schema"})


def test_two_answers_are_compared(world, vllm):
    assert world.preference(vllm) == 0
    results = json.loads(world.preference_file("_results.json").read_text())
    assert results["win_rate"] + results["lose_rate"] + results["tie_rate"] == pytest.approx(1)
    assert results["undecided"] == []
