"""The memory map: 85% of what is free now, or what the user says, and clear errors for what cannot be."""

import pytest

from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.multi_gpu import memory_map
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.memory_map import (
    build_max_memory,
    check_amounts,
    get_gpu_memory,
    max_memory_of,
)
from evaluation.toolbench.inference.multi_gpu.units import GIB, MIB
from tests.helpers.fake_nvml import FakeGpu, FakeNvml


def gpus(*free_bytes: int, total_bytes: int = 24 * GIB):
    fakes = [FakeGpu(f"GPU-{i}", total=total_bytes, used=total_bytes - free) for i, free in enumerate(free_bytes)]
    return inspect_gpus(FakeNvml(*fakes), {}).visible


def test_85_percent_of_what_is_free_now():
    assert max_memory_of(gpus(24 * GIB, 10 * GIB, 20 * GIB), 2) == {0: "20889MiB", 1: "8704MiB"}


def test_less_than_a_gib_is_said_in_mib():
    assert max_memory_of(gpus(GIB, 0), 2) == {0: "870MiB", 1: "0MiB"}


@pytest.mark.parametrize(
    ("max_gpu_memory", "expected"),
    [
        ("20GiB", {0: "20GiB", 1: "20GiB"}),
        ("20000MiB", {0: "20000MiB", 1: "20000MiB"}),
        ("80%", {0: "19660MiB", 1: "8GiB"}),
        ("20GiB,10GiB", {0: "20GiB", 1: "10GiB"}),
        (" 20 gib , 50% ", {0: "20GiB", 1: "5GiB"}),
        ({1: "5GiB", 0: "0.5GiB"}, {0: "512MiB", 1: "5GiB"}),
    ],
)
def test_max_gpu_memory_says_how_much(max_gpu_memory, expected):
    assert max_memory_of(gpus(24 * GIB, 10 * GIB), 2, max_gpu_memory) == expected


def test_a_dict_may_leave_out_a_gpu():
    assert max_memory_of(gpus(*[24 * GIB] * 3), 2, {0: "20GiB", 2: "10GiB"}) == {0: "20GiB", 2: "10GiB"}


@pytest.mark.parametrize(
    ("max_gpu_memory", "error", "words"),
    [
        ("lots", ConfigError, "'lots' is not an amount of memory"),
        ("", ConfigError, "is not an amount of memory"),
        ("20", ConfigError, "write a number with its unit"),
        ("-5GiB", ConfigError, "is not an amount of memory"),
        ("0GiB", ConfigError, "is not an amount of memory"),
        ("0%", ConfigError, "above 0% and at most 100%"),
        ("120%", ConfigError, "above 0% and at most 100%"),
        ("1GiB,1GiB,1GiB", ConfigError, "has 3 amounts for num_gpus=2"),
        ("20GiB,", ConfigError, "is not an amount of memory"),
        ("48GiB", PlacementError, "for GPU 0 .*which has 24.0 GiB; 20.0 GiB of it are free now"),
        ({0: "1GiB", 5: "1GiB"}, ConfigError, "names GPU 5; the visible ones are 0, 1"),
        ({0: "1GiB"}, ConfigError, "names 1 GPU and num_gpus=2"),
        ({0: "1GiB", "cpu": "1GiB"}, ConfigError, "names GPU 'cpu'; the visible ones are 0, 1"),
        ({0: 20, 1: 20}, ConfigError, "20 is not a text with a unit"),
        (20, ConfigError, "max_gpu_memory=20 is neither a text like '20GiB' nor a dict"),
    ],
)
def test_what_cannot_be_is_one_clear_line(max_gpu_memory, error, words):
    with pytest.raises(error, match=words) as caught:
        max_memory_of(gpus(20 * GIB, 20 * GIB), 2, max_gpu_memory)
    assert "\n" not in str(caught.value)


def test_amounts_can_be_checked_without_a_gpu():
    check_amounts("20GiB, 80%")
    with pytest.raises(ConfigError, match="'lots' is not an amount of memory"):
        check_amounts("20GiB,lots")


def test_more_gpus_than_are_visible_names_both():
    with pytest.raises(PlacementError, match="num_gpus=3, but CUDA sees 2 GPUs"):
        max_memory_of(gpus(GIB, GIB), 3)
    with pytest.raises(PlacementError, match="CUDA sees no GPU; `nvidia-smi` tells"):
        max_memory_of([], 1)
    with pytest.raises(ConfigError, match="num_gpus=0"):
        max_memory_of(gpus(GIB), 0)


def test_the_known_names_read_this_machine(monkeypatch):
    monkeypatch.setattr(memory_map, "visible_gpus", lambda: gpus(24 * GIB, 12 * GIB, 512 * MIB))

    assert get_gpu_memory() == [24.0, 12.0, 0.5]
    assert get_gpu_memory(2) == [24.0, 12.0]
    assert build_max_memory(1) == {0: "20889MiB"}
