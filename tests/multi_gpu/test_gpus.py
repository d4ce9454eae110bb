"""GPUs are read through NVML, matched to CUDA's numbers by UUID, and what cannot be read is absent."""

import os
import subprocess
import sys

import pytest
import torch

from evaluation.toolbench.inference.multi_gpu import gpus
from evaluation.toolbench.inference.multi_gpu.gpus import Inspection, inspect_gpus, visible_gpus
from evaluation.toolbench.inference.multi_gpu.nvml import GpuProcess, processes_with_open_device, read_nvml
from evaluation.toolbench.inference.multi_gpu.units import GIB
from tests.helpers.fake_nvml import FakeGpu, FakeNvml

FIRST = FakeGpu("GPU-aaaa", used=2 * GIB, bus_id="00000000:01:00.0")
SECOND = FakeGpu(
    "GPU-bbbb", used=20 * GIB, bus_id="00000000:41:00.0", holders=[(4121, "/usr/bin/python3 x.py", 19 * GIB)]
)


def test_visible_devices_are_matched_by_uuid():
    found = inspect_gpus(FakeNvml(FIRST, SECOND), {"CUDA_VISIBLE_DEVICES": "GPU-bbbb,GPU-aaaa"})

    assert [(gpu.uuid, gpu.cuda_index, gpu.nvml_index) for gpu in found.visible] == [
        ("GPU-bbbb", 0, 1),
        ("GPU-aaaa", 1, 0),
    ]
    assert found.visible[0].free_bytes == 4 * GIB
    assert [gpu.cuda_index for gpu in found.gpus] == [None, None]


def test_a_gpu_says_how_busy_it_is_and_one_that_does_not_is_not_called_idle():
    nvml = FakeNvml(FakeGpu("GPU-a", busy=97), FakeGpu("GPU-b", busy=None), FakeGpu("GPU-c"))
    assert [gpu.busy_percent for gpu in read_nvml(nvml).gpus] == [97, None, 0]
    missing = FakeNvml(FakeGpu("GPU-a", busy=97), missing=["nvmlDeviceGetUtilizationRates"])
    assert read_nvml(missing).gpus[0].busy_percent is None


def test_facts_of_a_gpu():
    found = inspect_gpus(FakeNvml(FIRST, SECOND), {})
    gpu = found.visible[1]

    assert (gpu.name, gpu.total_bytes, gpu.used_bytes) == ("NVIDIA GeForce RTX 4090", 24 * GIB, 20 * GIB)
    assert gpu.compute_capability == (8, 9)
    assert gpu.bandwidth == pytest.approx(1008e9, rel=0.01)  # what the card's data sheet says
    assert gpu.pci_bus_id == "00000000:41:00.0"
    assert gpu.links == {"GPU-aaaa": "host bridge"}
    assert gpu.held_by == "19.0 GiB by pid 4121, python3"
    assert (found.driver_version, found.cuda_version) == ("560.35.03", "12.6")


def test_cuda_device_order_by_bus_id():
    slow, fast = FakeGpu("GPU-slow", bus_id="01"), FakeGpu("GPU-fast", name="NVIDIA H200", bus_id="02", cores=30_000)
    nvml = FakeNvml(slow, fast)

    assert [gpu.uuid for gpu in inspect_gpus(nvml, {}).visible] == ["GPU-fast", "GPU-slow"]
    by_bus = inspect_gpus(nvml, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"})
    assert [gpu.uuid for gpu in by_bus.visible] == ["GPU-slow"]


def test_the_order_of_different_cards_is_a_guess_that_cuda_can_settle():
    nvml = FakeNvml(
        FakeGpu("GPU-slow", bus_id="01"), FakeGpu("GPU-fast", name="NVIDIA H200", bus_id="02", cores=30_000)
    )
    assert inspect_gpus(nvml, {}).order_is_a_guess

    settled = inspect_gpus(nvml, {}, cuda_uuids=lambda: ["slow", "fast"])  # torch gives UUIDs without "GPU-"
    assert [gpu.uuid for gpu in settled.visible] == ["GPU-slow", "GPU-fast"]
    assert not settled.order_is_a_guess


def test_a_driver_that_knows_only_uuid_and_memory_is_enough():
    optional = [name for name in dir(FakeNvml) if name.startswith("nvml")]
    needed = {
        "nvmlInit",
        "nvmlDeviceGetCount",
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetMemoryInfo",
    }
    for knobs in ({"missing": set(optional) - needed}, {"refused": set(optional) - needed}):
        gpu = inspect_gpus(FakeNvml(FIRST, **knobs), {}).visible[0]

        assert (gpu.uuid, gpu.free_bytes, gpu.cuda_index) == ("GPU-aaaa", 22 * GIB, 0)
        assert (gpu.compute_capability, gpu.bandwidth, gpu.pci_bus_id, gpu.processes) == (None, None, None, ())


def test_a_gpu_that_cannot_be_read_is_named_and_the_others_are_read():
    found = inspect_gpus(FakeNvml(FakeGpu("GPU-dead", is_broken=True), FIRST), {})

    assert [gpu.uuid for gpu in found.visible] == ["GPU-aaaa"]
    assert found.notes == ("GPU 0 of the driver cannot be read: GPU is lost",)


def test_no_rights_on_nvml_is_a_note_and_no_error():
    found = inspect_gpus(FakeNvml(FIRST, refused=["nvmlInit"]), {})

    assert found.gpus == ()
    assert found.notes == ("NVML is not readable: Insufficient Permissions",)


def test_without_nvml_torch_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (5 * GIB, 8 * GIB))
    properties = type("Properties", (), {"name": "Some GPU", "major": 9, "minor": 0, "uuid": "aaaa"})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)

    found = inspect_gpus()

    assert [(gpu.name, gpu.free_bytes, gpu.cuda_index) for gpu in found.visible] == [("Some GPU", 5 * GIB, 0)]
    assert found.notes == ("NVML is not readable: the package nvidia-ml-py is not installed",)


def test_what_cuda_sees_and_the_driver_does_not_list_is_asked_of_torch(monkeypatch):
    monkeypatch.setattr(gpus, "inspect_gpus", lambda **_: Inspection())
    monkeypatch.setattr(gpus, "read_torch", lambda: ["as torch has it"])
    assert visible_gpus() == ("as torch has it",)


def test_a_mig_instance_has_its_own_memory():
    instance = FakeGpu("MIG-0001", total=20 * GIB, used=GIB, name="NVIDIA A100 MIG 2g.20gb")
    sliced = FakeGpu("GPU-aaaa", total=80 * GIB, mig=[instance, FakeGpu("MIG-0002", total=20 * GIB)])

    [gpu] = inspect_gpus(FakeNvml(sliced), {"CUDA_VISIBLE_DEVICES": "MIG-0001"}).visible

    assert (gpu.uuid, gpu.free_bytes, gpu.cuda_index, gpu.nvml_index) == ("MIG-0001", 19 * GIB, 0, 0)


def test_mig_instances_are_seen_where_their_gpu_hides_its_own_memory():
    instances = [FakeGpu("MIG-0001", total=20 * GIB, used=GIB), FakeGpu("MIG-0002", total=10 * GIB)]
    nvml = FakeNvml(FakeGpu("GPU-aaaa", total=80 * GIB, mig=instances, is_broken=True))

    found = inspect_gpus(nvml, {})

    assert [(gpu.uuid, gpu.free_bytes) for gpu in found.visible] == [("MIG-0001", 19 * GIB)]
    assert (found.gpus[0].total_bytes, found.gpus[0].free_bytes) == (30 * GIB, 29 * GIB)


def test_this_process_is_not_a_holder_and_unknown_sizes_are_no_sizes():
    gpu = FakeGpu("GPU-aaaa", used=3 * GIB, holders=[(os.getpid(), "python", GIB), (7, "Xorg", None)])

    [process] = read_nvml(FakeNvml(gpu)).gpus[0].processes

    assert process == GpuProcess(7, "Xorg", None)
    assert str(process) == "pid 7, Xorg"


def test_nvml_is_closed_after_reading():
    nvml = FakeNvml(FIRST)
    inspect_gpus(nvml, {})
    assert not nvml.is_open


def test_processes_that_have_a_device_file_open_are_found(tmp_path):
    device = tmp_path / "nvidia0"
    device.touch()
    with (
        device.open(),
        subprocess.Popen(
            [sys.executable, "-c", f"f = open({str(device)!r}); print('open', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder,
    ):
        holder.stdout.readline()
        found = processes_with_open_device(device)
        holder.communicate(b"\n")

    assert [process.pid for process in found] == [holder.pid]


def test_inspection_makes_no_cuda_context():
    inspect_gpus(FakeNvml(FIRST, SECOND), {})
    assert not torch.cuda.is_initialized()


def test_cards_of_one_name_that_run_at_other_clocks_leave_the_order_open():
    nvml = FakeNvml(FakeGpu("GPU-a", bus_id="01", cores=10_000), FakeGpu("GPU-b", bus_id="02", cores=10_100))
    assert inspect_gpus(nvml, {}).order_is_a_guess
    assert not inspect_gpus(nvml, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}).order_is_a_guess


def test_a_card_that_the_driver_cannot_describe_does_not_shift_the_numbers_of_those_behind_it():
    nvml = FakeNvml(FakeGpu("GPU-a"), FakeGpu("GPU-b", is_broken=True), FakeGpu("GPU-c"))
    assert inspect_gpus(nvml, {}).order_is_a_guess  # so CUDA is asked
    found = inspect_gpus(nvml, {}, cuda_uuids=lambda: ["a", "b", "c"])
    assert [(gpu.uuid, gpu.cuda_index) for gpu in found.visible] == [("GPU-a", 0), ("GPU-c", 2)]
