"""`--num_replicas` becomes replicas on the GPUs that are there; cards and checkpoint are made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from evaluation.toolbench.inference.Downstream_tasks.backbones import layout_for
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.multi_gpu import planning
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.replicas import choice
from tests.helpers.fake_nvml import BrokenNvml
from tests.helpers.placement import TOOLGEN_8B, gpu


@pytest.fixture
def cards(monkeypatch):
    """Give the machine these cards."""
    monkeypatch.setattr(planning, "require_usable", lambda found: None)
    monkeypatch.setattr(planning, "footprint_of_checkpoint", lambda *_, **__: TOOLGEN_8B)

    def give(*total_gib):
        found = tuple(gpu(index, size) for index, size in enumerate(total_gib))
        for module in (choice, planning):
            monkeypatch.setattr(module, "visible_gpus", lambda: found)

    return give


def config(**changes):
    told = {"backbone_model": "toolgen_atomic", "model_path": "model", "num_replicas": "auto", "num_thread": 16}
    return RunConfig.of(SimpleNamespace(**{**told, **changes}))


def test_auto_gives_large_cards_a_replica_each_and_says_why(cards):
    cards(80, 80, 80)
    layout = layout_for(config(), num_queries=765)
    assert [spec.gpus for spec in layout.replicas] == [("cuda:0",), ("cuda:1",), ("cuda:2",)]
    assert "3 replicas of one GPU each" in layout.reasons
    assert not layout.is_in_parent


def test_a_planned_replica_over_small_cards_is_loaded_by_its_own_map_in_this_process(cards):
    cards(24, 24, 24)
    layout = layout_for(config(num_thread="auto"), num_queries=765)
    [spec] = layout.replicas
    assert layout.is_in_parent
    assert spec.gpus == ("cuda:0", "cuda:1", "cuda:2")
    assert spec.placement is not None
    assert spec.max_kv_bytes == spec.placement.max_kv_bytes


def test_one_replica_goes_where_the_memory_map_puts_it(cards):
    cards(24, 24, 24)
    [spec] = layout_for(config(num_replicas=1), num_queries=765).replicas
    assert (spec.placement, spec.max_kv_bytes) == (None, None)
    assert spec.gpus == ("cuda:0", "cuda:1", "cuda:2")


def test_a_steered_plan_is_followed(cards):
    """What is printed before loading is what is loaded."""
    cards(80, 80)
    [spec] = layout_for(config(num_gpus=1, max_gpu_memory="40GiB"), num_queries=765).replicas
    assert spec.gpus == ("cuda:0",)
    assert spec.placement is not None
    assert spec.max_kv_bytes + TOOLGEN_8B.weight_bytes < 40 * 2**30


def test_layers_go_to_the_cpu_when_that_is_asked_for(cards):
    cards(8, 8)
    with pytest.raises(PlacementError, match=r"layers on the CPU, slowly \(--cpu_offloading\)"):
        layout_for(config(), num_queries=765)
    [spec] = layout_for(config(cpu_offloading=True), num_queries=765).replicas
    assert spec.gpus == ("cuda:0", "cuda:1")
    assert spec.placement.offloaded


def test_one_gpu_is_shared_when_asked_and_not_unasked(cards):
    cards(140)
    assert layout_for(config(), num_queries=765).is_in_parent
    shared = layout_for(config(num_replicas=2), num_queries=765).replicas
    assert [spec.visible_devices for spec in shared] == ["GPU-0", "GPU-0"]
    assert 2 * (shared[0].max_kv_bytes + TOOLGEN_8B.weight_bytes) < 0.85 * 140 * 2**30


def test_there_are_never_more_replicas_than_queries(cards):
    cards(80, 80, 80)
    assert len(layout_for(config(num_replicas=3), num_queries=2).replicas) == 2
    assert layout_for(config(num_replicas=3), num_queries=1).is_in_parent


def test_more_replicas_than_fit_are_refused(cards):
    cards(24)
    with pytest.raises(PlacementError, match=r"--num_replicas 9: 1 fit here. 9 replicas of ToolGen-Llama-3-8B"):
        layout_for(config(num_replicas=9), num_queries=765)
    cards(80, 80)
    with pytest.raises(PlacementError, match=r"--num_replicas 9: 6 fit here"):
        layout_for(config(num_replicas=9), num_queries=765)
    cards()
    with pytest.raises(PlacementError, match=r"--num_replicas 500: .* fit"):
        layout_for(config(num_replicas=500), num_queries=765)


@pytest.mark.parametrize("changes", [{"engine": "server"}, {"backbone_model": "toolllama"}])
def test_models_that_are_not_ours_to_place_have_one_replica(cards, changes):
    cards(80, 80)
    assert layout_for(config(**changes), num_queries=9).is_in_parent
    with pytest.raises(ConfigError, match="--num_replicas 2"):
        layout_for(config(num_replicas=2, **changes), num_queries=9)


def test_replicas_on_the_cpu_are_refused_where_the_gpus_do_not_work(cards, monkeypatch):
    cards()
    broken = inspect_gpus(BrokenNvml("Driver/library version mismatch"), {})
    monkeypatch.setattr(choice, "inspect_gpus", lambda: broken)
    with pytest.raises(PlacementError, match="Driver/library version mismatch"):
        layout_for(config(num_replicas=2), num_queries=765)
