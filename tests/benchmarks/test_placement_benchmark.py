"""The placement benchmark: its checkpoint is a real one, and its rows tell a kept promise from a broken one."""

import pytest
import torch

from benchmarks import random_weights
from benchmarks.placement import holder_rows, main, memory_rows
from benchmarks.random_weights import save_random_weights
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.multi_gpu.units import GIB
from tests.helpers.engine import tiny_llama


@pytest.mark.parametrize("tied", [True, False])
def test_random_weights_are_a_checkpoint(tmp_path, monkeypatch, tied):
    monkeypatch.setattr(random_weights, "_SHARD_BYTES", 20_000)
    config = tiny_llama(tie_word_embeddings=tied).config

    save_random_weights(config, tmp_path, torch.bfloat16)

    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model = load_model(str(tmp_path), device="cpu")
    matrices = [tensor for tensor in model.parameters() if tensor.dim() == 2]
    assert all(0.015 < float(matrix.detach().std()) < 0.025 for matrix in matrices)
    assert all(len(matrix.unique(dim=0)) == len(matrix) for matrix in matrices)  # no two rows are equal
    assert all((tensor == 1).all() for tensor in model.parameters() if tensor.dim() == 1)


def checks(*, taken: float, peak: float, free: float = 80, held_by: str = "") -> list[dict]:
    longest = {"budget_bytes": {"0": 60 * GIB}, "peak_bytes": {"0": peak * GIB}, "conversations": 40}
    ours = {"uuid": "GPU-1", "free_bytes": free * GIB, "total_bytes": 141 * GIB, "held_by": held_by}
    hidden = {"uuid": "GPU-0", "free_bytes": GIB, "total_bytes": 141 * GIB, "held_by": "pid 77, python"}
    return [
        {"check": "GPUs", "facts": {"gpus": [hidden, ours], "visible": ["GPU-1"]}},
        {"check": "loading", "facts": {"predicted_bytes": {"0": 16 * GIB}, "taken_bytes": {"0": taken * GIB}}},
        {"check": "longest conversation", "facts": {**longest, "kv_tokens": 9, "planned_kv_tokens": 10}},
    ]


@pytest.mark.parametrize(
    ("taken", "peak", "expected"),
    [(16.4, 59, [True] * 3), (16.6, 59, [False, True, True]), (16, 61, [True, False, True])],
)
def test_weights_within_3_percent_and_a_peak_inside_the_budget(taken, peak, expected):
    assert [row.is_ok for row in memory_rows("8B", checks(taken=taken, peak=peak))] == expected


def test_a_doctor_without_numbers_is_a_broken_promise():
    nothing = [{"check": "loading", "facts": {}}, {"check": "longest conversation", "facts": {}}]
    assert [row.is_ok for row in memory_rows("8B", nothing)] == [False]


@pytest.mark.parametrize(
    ("held_by", "free", "expected"),
    [
        ("pid 77, python", 80, [True] * 3),
        ("60.5 GiB by pid 4, python", 80, [True] * 3),  # the driver counts in another namespace
        ("pid 4, python", 80, [True, False, True]),
        ("pid 77, python", 100, [False, True, True]),
        ("pid 77, python", 70, [True, True, False]),
    ],
)
def test_a_holder_is_seen_named_and_planned_around(held_by, free, expected):
    found = checks(taken=16, peak=10, free=free, held_by=held_by)
    assert [row.is_ok for row in holder_rows("8B", found, 77, 60 * GIB)] == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["placement.py"])
    assert main() == 2
    assert capsys.readouterr().err == "needs 1 GPU, found 0\n"
