"""`--weights` and `--kv_cache` of an evaluation: files that name the formats and keep to them, and a plan by them."""

from __future__ import annotations

import json

import pytest

from evaluation.retrieval.eval_toolgen import main
from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.inference.Downstream_tasks.backbones import layout_for
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu import planning
from evaluation.toolbench.inference.multi_gpu.simulated import simulated_gpus
from evaluation.toolbench.inference.replicas import choice
from evaluation.toolbench.retrieval.options import parse_options

STEM = "model_constrained_Atomic_demo_seen_llama-3"


def flags(**given):
    values = {"model_name_or_path": MODEL_DIR, "data_dir": DATA_DIR, "stage": "demo", "split": "seen", **given}
    return [f"--{name}={value}" for name, value in values.items()]


def test_an_evaluation_in_8_bits_prints_a_table_and_keeps_to_its_formats(tmp_path, capsys):
    asked = {"result_path": f"{tmp_path}/", "weights": "int8", "kv_cache": "fp8"}
    assert main(flags(**asked)) == 0
    printed = capsys.readouterr().out
    assert "demo seen constrained" in printed
    assert "The model was held in float32, weights in int8, KV cache in fp8." in printed
    record = json.loads((tmp_path / "model_Atomic.run.json").read_text())
    assert (record["configuration"]["weights"], record["configuration"]["kv_cache"]) == ("int8", "fp8")
    metrics = tmp_path / f"{STEM}.metrics.json"
    held = json.loads(metrics.read_text())
    assert (held["weights"], held["kv_cache"]) == ("int8", "fp8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(flags(**asked)) == 0  # nothing is left
    assert main(flags(**{**asked, "weights": "auto"})) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "weights: int8 -> auto" in said
    assert "--overwrite" in said
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert main([*flags(result_path=f"{tmp_path}/"), "--overwrite"]) == 0
    assert "weights" not in json.loads(metrics.read_text())
    assert "The model was held in" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weights": "fp8", "engine": "server"}, "--weights fp8 with --engine server: the server holds the weights"),
        ({"kv_cache": "fp8", "engine": "server"}, "--kv_cache fp8 with --engine server"),
        ({"kv_cache": "fp8", "engine": "generate"}, "--kv_cache fp8 with --engine generate"),
    ],
)
def test_what_an_engine_does_not_hold_is_refused_in_one_line(given, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_options(flags(engine_url="http://localhost:1/v1", **given))
    assert "\n" not in str(caught.value)


@pytest.fixture
def cards(monkeypatch):
    """Give the machine these cards."""
    monkeypatch.setattr(planning, "require_usable", lambda found: None)

    def give(described):
        found = simulated_gpus(described)
        for module in (choice, planning):
            monkeypatch.setattr(module, "visible_gpus", lambda: found)

    return give


def test_replicas_are_planned_in_the_formats_that_are_asked_for(cards):
    run = parse_options(flags(weights="fp8", kv_cache="fp8")).run
    cards("3xRTX4090")
    placements = [spec.placement for spec in layout_for(run, num_queries=1000).replicas]
    assert [(each.weights, each.kv_cache) for each in placements] == [("fp8", "fp8")] * 3
    cards("RTX3090")
    with pytest.raises(ConfigError, match=r"RTX3090 \(compute capability 8.6\) has no float8.*--weights int8"):
        layout_for(run, num_queries=1000)
