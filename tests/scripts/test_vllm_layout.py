"""How scripts/serve_vllm.sh lays a model over GPUs, and what it says when it cannot start."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.pipeline import ROOT

_SPEC = importlib.util.spec_from_file_location("vllm_layout", ROOT / "scripts" / "lib" / "vllm_layout.py")
vllm_layout = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(vllm_layout)


@pytest.mark.parametrize(
    ("num_gpus", "sizes"), [(1, (1, 1)), (2, (2, 1)), (3, (1, 3)), (4, (4, 1)), (5, (1, 5)), (6, (2, 3)), (8, (8, 1))]
)
def test_three_cards_take_layers_of_llama_3_8b_and_others_take_heads(num_gpus, sizes):
    assert vllm_layout.parallel_sizes(num_gpus, num_heads=32, num_kv_heads=8, num_layers=32) == sizes


@given(st.integers(1, 16), st.integers(1, 8), st.integers(1, 8), st.integers(16, 80))
def test_every_gpu_is_used_and_heads_come_out_even(num_gpus, num_kv_heads, heads_per_kv, num_layers):
    num_heads = num_kv_heads * heads_per_kv
    tensor, pipeline = vllm_layout.parallel_sizes(num_gpus, num_heads, num_kv_heads, num_layers)
    assert tensor * pipeline == num_gpus
    assert num_heads % tensor == 0
    assert num_kv_heads % tensor == 0 or tensor % num_kv_heads == 0


def test_more_gpus_than_layers_are_refused():
    with pytest.raises(ValueError, match="7 GPUs are too many for 2 layers"):
        vllm_layout.parallel_sizes(7, 4, 4, 2)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"VLLM_PYTHON": "/nowhere/python"}, "No vLLM in /nowhere/python: install it"),
        ({"VLLM_PYTHON": sys.executable}, f"No vLLM in {sys.executable}: install it"),
    ],
)
def test_without_vllm_the_script_says_how_to_get_it(variables, message):
    run = subprocess.run(
        ["bash", str(ROOT / "scripts" / "serve_vllm.sh")],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_without_a_gpu_nothing_is_installed_unasked(tmp_path):
    run = subprocess.run(
        ["bash", str(ROOT / "scripts" / "serve_vllm.sh")],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert "WITH_VLLM=1 installs vLLM for processors" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
