"""The benchmark of the paged engine: it runs without a GPU, and its table says what was measured."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import paged_engine
from benchmarks.agent_workload import Limit
from benchmarks.gpu_profile import Kernel, covered, gpu_lines, kind_of_kernel
from benchmarks.paged_engine import Row, table
from benchmarks.random_model import SHAPES
from benchmarks.spread_model import plan
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget
from evaluation.toolbench.inference.multi_gpu.simulated import simulated_gpus
from evaluation.toolbench.inference.multi_gpu.units import GIB


def test_a_tiny_run_prints_its_measurements_and_a_table_last(capsys):
    assert paged_engine.main(["--tiny", "--variants", "default", "--conversations", "2", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [measured] = [json.loads(line) for line in lines if line.startswith("{")]
    assert (measured["variant"], measured["conversations"], measured["drawn_tokens"]) == ("default", 2, 2 * 510)
    # Each turn is read once; the system prompt was there from the round before.
    assert measured["prefill_tokens"] < 2 * 2300
    assert lines[-1].split()[:2] == ["default", "2"]


def test_a_tiny_run_in_8_bits_says_so(capsys):
    flags = ["--variants", "default", "--conversations", "1", "--rounds", "1", "--weights", "int8", "--kv_cache", "fp8"]
    assert paged_engine.main(["--tiny", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    [measured] = [json.loads(line) for line in lines if line.startswith("{")]
    assert (measured["weights"], measured["kv_cache"]) == ("int8", "fp8")
    assert "weights int8, kv_cache fp8" in lines[-1]
    with pytest.raises(SystemExit):
        paged_engine.main(["--tiny", "--weights", "int8,int4"])
    assert "int8,int4: choose of auto, int8, fp8" in capsys.readouterr().err


def test_an_unknown_variant_is_refused_with_those_that_exist(capsys):
    with pytest.raises(SystemExit):
        paged_engine.main(["--tiny", "--variants", "fast"])
    assert "default" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has as many GPUs")
def test_more_gpus_than_there_are_is_an_error_with_both_numbers(capsys):
    assert paged_engine.main(["--tiny", "--gpus", "8"]) == 2
    assert f"needs 8 GPUs, found {torch.cuda.device_count()}" in capsys.readouterr().err


def test_kernels_that_run_side_by_side_leave_no_less_idle_time():
    assert covered([(0.0, 2.0), (1.0, 3.0), (1.5, 1.6), (5.0, 6.0)]) == 4.0
    assert covered([]) == 0.0


def test_the_kernels_of_a_step_that_take_longest_are_named():
    step = [("gemm", 0, 30), ("_attend_part", 26, 36), ("gemm", 42, 60)]
    kernels = [Kernel(name, 100 * n + start, 100 * n + end) for n in range(10) for name, start, end in step]
    lines = [line.split() for line in gpu_lines(0, kernels, 1e-3, num_steps=10)]
    assert ["matrix", "products", "0.00", "48.0%", "0.048"] in lines
    assert ["idle", "0.00", "46.0%", "0.046"] in lines
    assert ["counted", "twice,", "side", "by", "side", "0.00", "0.004"] in lines
    assert lines[-5:-3] == [["gemm", "2.0", "24.0", "0.048"], ["_attend_part", "1.0", "10.0", "0.010"]]
    between_steps, within = lines[-2:]
    assert between_steps == ["gemm", "..", "gemm", "0.9", "40.0", "0.036"]
    assert within == ["_attend_part", "..", "gemm", "1.0", "6.0", "0.006"]


def test_shares_are_of_the_limit_for_as_many_conversations():
    limits = {1: Limit(decode_s=2.0, prefill_s=1.0)}
    assert table([Row("default", 1, 10.0, 100.0, 5.0)], limits).splitlines()[-1].split() == [
        "default", "1", "600", "10.0", "100", "5.00", "50%",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_attend_part", "attention"),
        ("_join_parts", "attention"),
        ("nvjet_hsh_64x8_64x16_4x1_v_bz_TNT", "matrix products"),
        (
            "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::ArgMaxOps<float>>>",
            "sampling",
        ),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4, silu>", "element by element"),
    ],
)
def test_kernels_are_counted_by_kind(name, kind):
    assert kind_of_kernel(name) == kind


def test_a_model_over_several_cards_is_planned_in_its_formats():
    """24 GB cards, of which two hold the 8B shape in bfloat16, hold it alone in 8 bits."""
    config, budgets = SHAPES["8b"](), [GpuBudget(gpu, 20 * GIB) for gpu in simulated_gpus("2x24GiB")]
    plain = plan(config, budgets, torch.bfloat16)
    small = plan(config, budgets, torch.bfloat16, weights="fp8", kv_cache="fp8")
    assert [len(each.shards) for each in (plain, small)] == [2, 2]
    assert sum(shard.weight_bytes for shard in small.shards) < 0.6 * sum(shard.weight_bytes for shard in plain.shards)
    assert small.kv_tokens > 2 * plain.kv_tokens
