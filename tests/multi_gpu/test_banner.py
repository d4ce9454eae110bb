"""The block with which the main script begins is fixed to the letter."""

import subprocess
import sys

import pytest
import torch

from evaluation.toolbench.inference.multi_gpu.banner import banner


def pretend(monkeypatch, *names: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])


def test_three_gpus(monkeypatch):
    pretend(monkeypatch, *["NVIDIA GeForce RTX 4090"] * 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")

    assert banner() == (
        "=== GPU配置信息 ===\n"
        "CUDA_VISIBLE_DEVICES: 0,1,2\n"
        "CUDA available: True\n"
        "GPU count: 3\n"
        "GPU 0: NVIDIA GeForce RTX 4090\n"
        "GPU 1: NVIDIA GeForce RTX 4090\n"
        "GPU 2: NVIDIA GeForce RTX 4090\n"
        "=================="
    )


def test_no_gpu_and_nothing_set(monkeypatch):
    pretend(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    assert banner().splitlines()[1:4] == ["CUDA_VISIBLE_DEVICES: not set", "CUDA available: False", "GPU count: 0"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_prints_on_any_terminal(encoding):
    command = [sys.executable, "-m", "evaluation.toolbench.inference.multi_gpu.banner"]
    printed = subprocess.run(
        command, env={"PYTHONPATH": ".", "PYTHONIOENCODING": encoding}, capture_output=True, check=True
    )
    assert printed.stdout.decode(encoding).startswith("=== GPU")
