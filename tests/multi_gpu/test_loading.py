"""Weights come to lie where they were meant to, all of them, or one clear error says why not."""

import re
import warnings

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.device import embedding_device
from evaluation.toolbench.inference.errors import ConfigError, DataError, PlacementError
from evaluation.toolbench.inference.multi_gpu import loading
from evaluation.toolbench.inference.multi_gpu.device_maps import auto_device_map, unevenness, weights_by_place
from evaluation.toolbench.inference.multi_gpu.footprint import toolgen_8b_config
from evaluation.toolbench.inference.multi_gpu.gpus import Inspection, inspect_gpus
from evaluation.toolbench.inference.multi_gpu.loading import (
    check_placement,
    load_model,
    load_replica,
    place_now,
    spread,
)
from evaluation.toolbench.inference.multi_gpu.memory_map import max_memory_of
from evaluation.toolbench.inference.multi_gpu.placement import budgets_of, plan_placement
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, Workload
from evaluation.toolbench.inference.multi_gpu.units import GIB
from evaluation.toolbench.inference.multi_gpu.usability import require_usable
from tests.helpers.checkpoint import save_tiny_llama
from tests.helpers.engine import plain_greedy, tiny_llama
from tests.helpers.fake_nvml import FakeGpu, FakeNvml
from tests.helpers.placement import TOOLGEN_8B, gpu

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.mark.parametrize("tied", [True, False])
def test_the_loaded_model_is_the_saved_one(tmp_path, tied):
    model = load_model(str(save_tiny_llama(tmp_path, tie_word_embeddings=tied)), device="cpu")

    assert model.hf_device_map == {"": "cpu"}
    assert model.dtype == torch.float32
    assert not model.training
    assert embedding_device(model) == torch.device("cpu")
    assert plain_greedy(model, [1, 2, 3], 8) == plain_greedy(tiny_llama(tie_word_embeddings=tied), [1, 2, 3], 8)


def test_dtype_is_what_is_asked_for(tmp_path):
    folder = str(save_tiny_llama(tmp_path))
    assert load_model(folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="dtype='int3' is not one of auto, bfloat16, float16, float32"):
        load_model(folder, device="cpu", dtype="int3")


@without_gpu
def test_without_a_gpu_one_means_the_cpu_and_two_is_an_error(tmp_path):
    folder = str(save_tiny_llama(tmp_path))
    assert load_model(folder).device == torch.device("cpu")
    with pytest.raises(PlacementError, match="num_gpus=2, but CUDA sees no GPU"):
        load_model(folder, num_gpus=2)
    with pytest.raises(PlacementError, match="'cuda:3', but CUDA sees 0 GPUs"):
        load_model(folder, device="cuda:3")


def test_an_unknown_device(tmp_path):
    with pytest.raises(ConfigError, match="torch does not know device='abacus'"):
        load_model(str(save_tiny_llama(tmp_path)), device="abacus")


def test_weights_of_another_shape_are_refused(tmp_path):
    folder = save_tiny_llama(tmp_path)
    tiny_llama(num_hidden_layers=3).config.save_pretrained(folder)
    with pytest.raises(DataError, match=r"lack 9 of the model's tensors, the first is model\.layers\.2"):
        load_model(str(folder), device="cpu")


def test_a_broken_pickle_is_one_line(tmp_path):
    folder = save_tiny_llama(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"abc")
    with pytest.raises(DataError, match="cannot load ") as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_a_layer_on_the_cpu_unasked_is_an_error():
    model = tiny_llama()
    model.hf_device_map = {"model.embed_tokens": 0, "lm_head": "cpu"}

    with pytest.raises(PlacementError, match="lm_head would lie outside the GPUs"):
        check_placement(model, cpu_offloading=False)
    check_placement(model, cpu_offloading=True)


def test_weights_that_never_came_are_an_error():
    model = tiny_llama()
    model.hf_device_map = {"": "cpu"}
    model.lm_head.to("meta")
    check_placement(model, cpu_offloading=True)  # there, they wait on the CPU or the disk
    with pytest.raises(DataError, match=r"1 parameters have no weights after loading, the first is lm_head\.weight"):
        check_placement(model, cpu_offloading=False)


def test_a_head_that_should_be_tied_and_is_not_is_an_error():
    model = tiny_llama(tie_word_embeddings=True)
    model.hf_device_map = {"": "cpu"}
    check_placement(model, cpu_offloading=False)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    with pytest.raises(DataError, match="the config ties the head to the embedding"):
        check_placement(model, cpu_offloading=False)


@pytest.fixture
def two_8_gb_cards(monkeypatch):
    cards = (gpu(0, 8), gpu(1, 8))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading, "inspect_gpus", lambda: Inspection(cards, cards))
    monkeypatch.setattr(loading, "visible_gpus", lambda: cards)
    monkeypatch.setattr(loading, "footprint_of_checkpoint", lambda *_, **__: TOOLGEN_8B)
    monkeypatch.setattr(loading, "read_config", lambda _: toolgen_8b_config())


@pytest.mark.usefixtures("two_8_gb_cards")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "weights 15.7 GiB, .* GPU 0 .* offers 8.0 GiB of its 8.0 GiB"),
        ({"num_gpus": 2}, "GPU 1 .* offers 6.8 GiB of its 8.0 GiB .* are missing"),
        ({"num_gpus": 2, "max_gpu_memory": "7GiB,5GiB"}, "GPU 1 .* offers 5.0 GiB"),
    ],
)
def test_a_model_too_large_is_refused_with_the_numbers_before_it_is_loaded(tmp_path, options, words):
    with pytest.raises(PlacementError, match=words):
        load_model(str(tmp_path), **options)


def test_auto_is_kept_where_its_map_is_even():
    for count in range(2, 9):
        cards = [gpu(index, 80) for index in range(count)]
        max_memory = max_memory_of(cards, count)
        device_map = auto_device_map(toolgen_8b_config(), torch.bfloat16, max_memory)
        if unevenness(device_map, TOOLGEN_8B, range(count)) is None:
            break
    else:
        pytest.skip("the installed transformers has no even map of this model over two to eight cards")
    arguments = spread(toolgen_8b_config(), TOOLGEN_8B, budgets_of(cards))
    assert arguments == {"device_map": "auto", "max_memory": max_memory}


@settings(max_examples=25)
@given(st.lists(st.integers(6, 80), min_size=2, max_size=16), st.booleans())
def test_every_gpu_that_was_asked_for_holds_a_part(sizes, are_equal):
    """By the installed transformers' own "auto", which leaves GPUs empty, or by the planner's map."""
    sizes = [sizes[0]] * len(sizes) if are_equal else sizes
    budgets = [GpuBudget(gpu(index, size), size * GIB) for index, size in enumerate(sizes)]
    assume(sum(sizes) > 1.5 * 16 + len(sizes))
    arguments = spread(toolgen_8b_config(), TOOLGEN_8B, budgets)
    device_map = arguments["device_map"]
    if device_map == "auto":
        device_map = auto_device_map(toolgen_8b_config(), torch.bfloat16, arguments["max_memory"])
        assert unevenness(device_map, TOOLGEN_8B, range(len(sizes))) is None
    weights = weights_by_place(device_map, TOOLGEN_8B)
    assert set(weights) == set(range(len(sizes)))
    assert all(weights[index] < size * GIB for index, size in enumerate(sizes))


@pytest.mark.parametrize("count", [8, 16])
def test_a_map_that_leaves_a_card_empty_is_not_used_and_that_is_said(count, caplog):
    budgets = budgets_of([gpu(index, 24) for index in range(count)])
    arguments = spread(toolgen_8b_config(), TOOLGEN_8B, budgets)
    assert set(arguments["device_map"].values()) == set(range(count))
    said = [record.getMessage() for record in caplog.records if record.name == loading.__name__]
    assert len(said) == 1
    assert re.match(r'device_map="auto" leaves GPU [\d, ]+ empty; the planner\'s map is used instead', said[0])


@pytest.mark.parametrize("sizes", [(20, 20, 2), (20, 6), (40, 4, 4)])
def test_on_cards_that_differ_much_what_fits_leaves_no_layer_over(sizes):
    """`device_map="auto"` would put the last layers on the disk."""
    budgets = [GpuBudget(gpu(index, size), size * GIB) for index, size in enumerate(sizes)]
    device_map = spread(toolgen_8b_config(), TOOLGEN_8B, budgets)["device_map"]
    assert set(device_map.values()) <= set(range(len(sizes)))
    assert len(device_map) == 36


def test_one_card_needs_no_map_of_modules_and_what_does_not_fit_goes_to_the_cpu_when_allowed():
    assert spread(toolgen_8b_config(), TOOLGEN_8B, [GpuBudget(gpu(1, 24), 20 * GIB)]) == {"device_map": {"": 1}}
    small = [GpuBudget(gpu(0, 8), 6 * GIB)]
    with pytest.raises(PlacementError, match="--cpu_offloading"):
        spread(toolgen_8b_config(), TOOLGEN_8B, small)
    assert spread(toolgen_8b_config(), TOOLGEN_8B, small, cpu_bytes=64 * GIB)["device_map"]["lm_head"] == "cpu"
    with pytest.raises(PlacementError, match=r"What would help: .*a larger GPU or more free main memory"):
        spread(toolgen_8b_config(), TOOLGEN_8B, small, cpu_bytes=GIB)


# ---- the plan, some time later and in another process


def plan_over(*gpus):
    [replica] = plan_placement(TOOLGEN_8B, budgets_of(gpus), num_replicas=1).replicas
    return replica


def test_the_plan_follows_the_gpus_to_their_new_numbers():
    replica = plan_over(gpu(0, 1), gpu(1, 24), gpu(2, 24))
    seen_by_the_child = inspect_gpus(
        FakeNvml(*[FakeGpu(f"GPU-{index}") for index in range(3)]), {"CUDA_VISIBLE_DEVICES": replica.visible_devices}
    ).visible

    device_map = place_now(replica, seen_by_the_child)

    assert (device_map["model.embed_tokens"], device_map["lm_head"]) == (0, 1)
    assert list(device_map) == list(replica.device_map)


def test_a_replica_on_one_gpu_needs_no_map_of_modules():
    assert place_now(plan_over(gpu(3, 80)), [gpu(3, 80)]) == {"": 3}


def test_a_gpu_that_disappeared_since_planning_is_named():
    with pytest.raises(PlacementError, match=r"GPU 1 \(Card, GPU-1\) has disappeared since the layout was planned"):
        place_now(plan_over(gpu(0, 24), gpu(1, 24)), [gpu(0, 24)])


def test_a_gpu_that_filled_up_since_planning_is_named():
    words = r"had 24.0 GiB free .* and has 1.0 GiB now \(23.0 GiB by pid 977, python\)"
    with pytest.raises(PlacementError, match=words):
        place_now(plan_over(gpu(0, 24), gpu(1, 24)), [gpu(0, 24), gpu(1, 24, held_gib=23)])


def test_a_replica_is_loaded_where_the_plan_says(tmp_path, monkeypatch):
    from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_checkpoint

    folder = str(save_tiny_llama(tmp_path))
    plan = plan_placement(footprint_of_checkpoint(folder), budgets_of([gpu(0, 2)]), Workload(1, 64))
    # A CPU stands in for the GPU: what is loaded, and that the map is kept, is the same.
    monkeypatch.setattr(loading, "place_now", lambda replica, visible: {"": "cpu"})

    model = load_replica(folder, plan.replicas[0], visible=[])

    assert model.hf_device_map == {"": "cpu"}
    assert plain_greedy(model, [5], 6) == plain_greedy(tiny_llama(), [5], 6)


@without_gpu
def test_a_driver_that_torch_cannot_use_is_named():
    listed = inspect_gpus(FakeNvml(FakeGpu("GPU-0"), FakeGpu("GPU-1")), {})
    with (
        warnings.catch_warnings(),
        pytest.raises(PlacementError, match=r"the driver \(560.35.03, good up to CUDA 12.6\) lists 2 GPUs, but torch"),
    ):
        require_usable(listed)
    require_usable(Inspection())


def test_gpus_of_a_driver_too_old_are_not_silently_left_for_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "inspect_gpus", lambda: inspect_gpus(FakeNvml(FakeGpu("GPU-0")), {}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PlacementError, match="update the driver"):
        load_model(str(save_tiny_llama(tmp_path)))
