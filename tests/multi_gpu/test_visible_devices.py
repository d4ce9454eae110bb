"""Every form of CUDA_VISIBLE_DEVICES means to us what it means to CUDA."""

import pytest

from evaluation.toolbench.inference.multi_gpu.visible_devices import Device, resolve_visible_devices

A, B, C = "GPU-aaaa1111", "GPU-aabb2222", "GPU-cccc3333"
GPUS = [Device(A), Device(B), Device(C)]
SLICED = [Device(A), Device(B, ("MIG-0001", "MIG-0002"))]


@pytest.mark.parametrize(
    ("text", "uuids"),
    [
        (None, [A, B, C]),
        ("", []),
        ("  ", []),
        ("0,1,2", [A, B, C]),
        ("2,0", [C, A]),
        (" 1 , 2 ", [B, C]),
        ("1", [B]),
        ("+1", [B]),
        ("2 # the big one", [C]),
        ("-1", []),
        ("0,-1,1", [A]),
        ("0,7,1", [A]),
        ("1,x,0", [B]),
        ("0,,1", [A]),
        ("NoDevFiles", []),
        ("0,1,0", []),
        (f"{A},{A}", []),
        (f"{C},{A}", [C, A]),
        ("GPU-c,GPU-aab", [C, B]),
        ("GPU-cc,GPU-cccc", []),
        ("GPU-aa", []),
        ("GPU-c,GPU-a,GPU-aab", [C]),
        ("GPU-c,1", [C]),
        ("1,GPU-c", [B]),
        ("GPU-dddd,GPU-c", []),
        ("0;1;2", [A]),
        ("0 1 2", [A]),
        ("0，1，2", [A]),
        ("1;0,2", [B, C]),
        ("１,0", []),
        ("\u30001,0", []),
    ],
)
def test_cuda_visible_devices_leaves_what_cuda_would_see(text, uuids):
    assert list(resolve_visible_devices(text, GPUS).uuids) == uuids


@pytest.mark.parametrize(
    ("text", "uuids"),
    [
        ("MIG-0002", ["MIG-0002"]),
        ("MIG-0001,MIG-0002", ["MIG-0001"]),
        ("MIG-000", []),
        ("1", ["MIG-0001"]),
        ("0,1", [A]),
        (None, [A]),
    ],
)
def test_a_process_sees_one_mig_instance_or_whole_gpus(text, uuids):
    assert list(resolve_visible_devices(text, SLICED).uuids) == uuids


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("0,-1,1,2", "CUDA stops at '-1', which is not an index below 3; 2 behind it are ignored"),
        ("GPU-c,GPU-f", "CUDA stops at 'GPU-f', which this driver does not list"),
        ("GPU-a", "CUDA stops at 'GPU-a', which fits several devices"),
        ("0,0", "'0' names a GPU for the second time, so CUDA sees no GPU"),
        ("", "it is empty, so CUDA sees no GPU"),
        ("0,1", None),
    ],
)
def test_what_is_ignored_is_said(text, note):
    assert resolve_visible_devices(text, GPUS).note == note


@pytest.mark.parametrize("text", ["0;1;2", "0 1 2", "0，1，2", "0.1", "2 # the big one", "1;0,2", "0;1,9"])
def test_what_cuda_did_not_read_is_told(text):
    note = resolve_visible_devices(text, GPUS).note
    assert "leaves out" in note
    assert "only commas separate GPUs" in note
    assert "\n" not in note


@pytest.mark.parametrize("text", ["0,1,2", " 1 , 2 ", "+1", "GPU-c", None])
def test_what_was_read_whole_needs_no_note(text):
    assert resolve_visible_devices(text, GPUS).note is None
