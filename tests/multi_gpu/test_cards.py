"""Old cards, new cards, and cards whose driver does not work."""

import dataclasses
import logging
import os
import subprocess
import sys

import pytest
import torch

from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.multi_gpu import gpus as gpus_module
from evaluation.toolbench.inference.multi_gpu import loading, usability
from evaluation.toolbench.inference.multi_gpu.dtypes import keep_fp8, resolve_dtype
from evaluation.toolbench.inference.multi_gpu.gpu_config import GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.multi_gpu.placement import budgets_of, plan_placement
from evaluation.toolbench.inference.multi_gpu.planning import plan_for
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.units import GIB
from evaluation.toolbench.inference.multi_gpu.usability import refuse_closed, refuse_large_on_cpu, refuse_unknown_cards
from tests.helpers.checkpoint import save_tiny_llama
from tests.helpers.fake_nvml import BrokenNvml, FakeGpu, FakeNvml
from tests.helpers.pipeline import ROOT
from tests.helpers.placement import TOOLGEN_8B

T4, V100, A100, H100 = (7, 5), (7, 0), (8, 0), (9, 0)
MISMATCH = "Driver/library version mismatch"
CU130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def cards(*capabilities):
    nvml = FakeNvml(*(FakeGpu(f"GPU-{i}", capability=capability) for i, capability in enumerate(capabilities)))
    return inspect_gpus(nvml, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}).visible


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ([T4], torch.float16),
        ([V100], torch.float16),
        ([A100], torch.bfloat16),
        ([H100, (12, 0)], torch.bfloat16),
        ([T4, A100], torch.float16),
        ([H100, V100, H100], torch.float16),
    ],
)
def test_dtype_auto_is_the_one_that_all_cards_have(capabilities, dtype):
    assert resolve_dtype("auto", cards(*capabilities)) == dtype


def test_a_dtype_that_is_named_holds_and_auto_on_the_cpu_is_float32():
    assert resolve_dtype("bfloat16", cards(T4)) == torch.bfloat16
    assert resolve_dtype("auto", None) == torch.float32
    with pytest.raises(ConfigError, match="int3"):
        resolve_dtype("int3", cards(T4))


def test_fp8_stays_where_all_cards_have_it():
    assert keep_fp8(cards((8, 9), H100))
    assert not keep_fp8(cards(A100, H100))
    assert not keep_fp8([])


def test_every_replica_computes_in_the_plans_dtype(tmp_path, monkeypatch):
    """A replica on the new card of a mixed machine sees that card alone."""
    plan = plan_placement(dataclasses.replace(TOOLGEN_8B, dtype="float16"), budgets_of(cards(H100)))
    monkeypatch.setattr(loading, "place_now", lambda replica, visible: {"": "cpu"})
    folder = str(save_tiny_llama(tmp_path))
    assert loading.load_replica(folder, plan.replicas[0], visible=[]).dtype == torch.float16
    assert loading.load_replica(folder, plan.replicas[0], visible=[], dtype="float32").dtype == torch.float32


@pytest.mark.parametrize("capability", [T4, A100, (8, 6), (8, 9), H100, (10, 0), (10, 3), (12, 0), (12, 1), (13, 0)])
def test_cards_that_torch_has_kernels_for_are_taken(capability):
    refuse_unknown_cards(cards(capability), CU130)


@pytest.mark.parametrize(
    ("capability", "architectures"),
    [
        (V100, CU130),
        ((6, 1), CU130),
        ((12, 0), ["sm_80", "sm_90"]),
        ((9, 0), ["sm_80", "sm_86"]),
        ((10, 3), ["sm_100a"]),
    ],
)
def test_a_card_that_torch_has_no_kernels_for_is_refused_before_loading(capability, architectures):
    with pytest.raises(PlacementError, match=f"compute capability {capability[0]}.{capability[1]}") as error:
        refuse_unknown_cards(cards(H100 if "sm_90" in architectures else capability, capability), architectures)
    assert "CUDA_VISIBLE_DEVICES" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_torch_that_tells_no_architectures_is_believed():
    refuse_unknown_cards(cards(V100), [])


# ---- a driver that does not work


def broken(words, **environ):
    return inspect_gpus(BrokenNvml(words), environ)


def test_a_driver_that_does_not_work_is_told_in_nvmls_words():
    found = broken(MISMATCH)
    assert found.problem == MISMATCH
    with pytest.raises(PlacementError, match=rf"{MISMATCH}.*restart the machine.*toolgen has 15\.0 GiB") as error:
        refuse_large_on_cpu(found, "toolgen", 15 * GIB)
    assert "CUDA_VISIBLE_DEVICES= asks for that" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_small_model_runs_on_the_cpu_with_a_warning(caplog):
    refuse_large_on_cpu(broken(MISMATCH), "demo", 7_000_000)
    [record] = caplog.records
    assert (record.levelno, MISMATCH in record.message) == (logging.WARNING, True)


@pytest.mark.parametrize("visible", ["", "-1", " "])
def test_the_cpu_may_be_asked_for(visible, caplog):
    refuse_large_on_cpu(broken(MISMATCH, CUDA_VISIBLE_DEVICES=visible), "toolgen", 15 * GIB)
    assert not caplog.records


@pytest.mark.parametrize("words", ["Driver Not Loaded", "NVML Shared Library Not Found"])
def test_a_machine_without_a_driver_just_has_no_gpus(words):
    found = broken(words)
    assert found.problem is None
    refuse_large_on_cpu(found, "toolgen", 15 * GIB)


def test_cards_on_the_bus_without_a_driver_are_seen(tmp_path):
    devices = {"0000:01:00.0": ("0x10de", "0x030000"), "0000:02:00.0": ("0x10de", "0x030200")}
    others = {"0000:01:00.1": ("0x10de", "0x040300"), "0000:00:02.0": ("0x8086", "0x030000")}
    for address, (vendor, kind) in (devices | others).items():
        (tmp_path / address).mkdir()
        (tmp_path / address / "vendor").write_text(f"{vendor}\n")
        (tmp_path / address / "class").write_text(f"{kind}\n")
    assert "2 NVIDIA cards" in gpus_module._undriven_cards(None, tmp_path)
    assert gpus_module._undriven_cards(None, tmp_path / "none") is None


def test_a_large_model_is_not_silently_loaded_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "inspect_gpus", lambda: broken(MISMATCH))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(usability, "_LARGE_BYTES", 1000)
    folder = str(save_tiny_llama(tmp_path))
    with pytest.raises(PlacementError, match=MISMATCH):
        load_model(folder)
    assert load_model(folder, device="cpu").device.type == "cpu"


def test_a_list_that_cuda_does_not_read_whole_is_told_once_in_a_run():
    code = """
import pynvml, sys
from tests.helpers.fake_nvml import FakeGpu, FakeNvml
sys.modules["pynvml"] = FakeNvml(FakeGpu("GPU-0"), FakeGpu("GPU-1"))
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
print(len(visible_gpus()), len(visible_gpus()))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0;1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == ["1", "1"], run.stderr
    assert run.stderr.count("CUDA reads '0;1' as 0 and leaves out ';1', for only commas separate GPUs") == 1


# ---- clusters


def test_a_jobs_cards_are_numbered_among_those_that_its_cgroup_allows():
    """SLURM gives a job the second pair of four cards as CUDA_VISIBLE_DEVICES=0,1."""
    nvml = FakeNvml(*(FakeGpu(f"GPU-{i}", is_forbidden=i < 2, bus_id=f"00000000:0{i}:00.0") for i in range(4)))
    found = inspect_gpus(nvml, {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert [(gpu.uuid, gpu.cuda_index) for gpu in found.visible] == [("GPU-2", 0), ("GPU-3", 1)]


OTHER = [(977, "python", GIB)]


def exclusive(*holders):
    nvml = FakeNvml(FakeGpu("GPU-0", total=80 * GIB, compute_mode=3, holders=holders))
    return inspect_gpus(nvml, {}).visible


def test_replicas_do_not_share_a_card_that_takes_one_process():
    with pytest.raises(PlacementError, match=r"EXCLUSIVE_PROCESS.*where 2 replicas would.*lower --num_replicas"):
        plan_for(TOOLGEN_8B, exclusive(), GpuConfig(num_replicas=2), Workload(conversations=2))
    assert len(plan_for(TOOLGEN_8B, exclusive(), GpuConfig(num_replicas=1)).replicas) == 1


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (
            FakeGpu("GPU-0", compute_mode=3, holders=OTHER),
            r"EXCLUSIVE_PROCESS.*another one \(1.0 GiB by pid 977, python\)",
        ),
        (FakeGpu("GPU-0", compute_mode=2), "PROHIBITED, which lets no process compute on it"),
    ],
)
def test_a_card_that_is_closed_to_this_process_is_named(card, words):
    with pytest.raises(PlacementError, match=words):
        refuse_closed(inspect_gpus(FakeNvml(card), {}).visible)


def test_the_planner_leaves_a_closed_card_to_others():
    nvml = FakeNvml(
        FakeGpu("GPU-0", total=80 * GIB, compute_mode=3, holders=OTHER, bus_id="00000000:01:00.0"),
        FakeGpu("GPU-1", total=80 * GIB, bus_id="00000000:02:00.0"),
    )
    [replica] = plan_for(TOOLGEN_8B, inspect_gpus(nvml, {}).visible, GpuConfig(num_replicas=1)).replicas
    assert replica.gpus == (1,)
