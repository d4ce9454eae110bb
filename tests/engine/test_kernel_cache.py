"""Triton's cache on a file system that fails now and then, or always: no replica goes slow for it."""

import os

import pytest
import torch

from evaluation.toolbench.inference.engine.kernels import cache
from evaluation.toolbench.inference.engine.kernels.availability import triton_works

pytest.importorskip("triton")


class Launch:
    """A launch that meets `errors` one after the other, and then succeeds; `caches` are those in use each time."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.caches = []

    def __call__(self, *_):
        self.caches.append(os.environ.get("TRITON_CACHE_DIR"))
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture(autouse=True)
def shared_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_own_folder", None)
    monkeypatch.setattr(cache, "_WAIT_S", 0)
    triton_works.cache_clear()
    yield str(tmp_path)
    triton_works.cache_clear()


def test_a_file_that_is_gone_for_a_moment_is_looked_for_again(shared_cache, caplog):
    launch = Launch(FileNotFoundError(2, "No such file", "_copy_numbers.json"))
    cache.launch(launch)
    assert launch.caches == [shared_cache] * 2
    assert not caplog.records


@pytest.mark.parametrize(
    "errors",
    [
        [FileNotFoundError(2, "gone"), FileNotFoundError(2, "gone again")],
        [OSError(116, "Stale file handle")],
        [PermissionError(13, "Permission denied", "/home/nobody/.triton")],
        [OSError(122, "Disk quota exceeded")],
    ],
)
def test_a_cache_that_fails_is_replaced_by_one_of_this_process(shared_cache, caplog, errors):
    number = len(errors)
    launch = Launch(*errors)
    cache.launch(launch)
    *before, own = launch.caches
    assert (before, own != shared_cache) == ([shared_cache] * number, True)
    assert os.path.isdir(own)
    [record] = caplog.records
    assert "Triton's cache cannot be used" in record.message
    cache.launch(later := Launch())
    assert later.caches == [own]


def test_a_launch_that_fails_in_its_own_cache_too_fails():
    with pytest.raises(OSError, match="No space"):
        cache.launch(Launch(*[OSError(28, "No space left on device")] * 3))


def test_a_passing_failure_is_not_remembered_as_triton_failing(monkeypatch, caplog):
    launch = Launch(FileNotFoundError(2, "No such file", "_copy_numbers.json"))
    monkeypatch.setattr("evaluation.toolbench.inference.engine.kernels.triton_probe.copy_numbers", launch)
    assert triton_works(torch.device("cpu"))
    assert not caplog.records


def test_what_is_no_failing_file_is_still_told(monkeypatch, caplog):
    launch = Launch(RuntimeError("Failed to find C compiler"))
    monkeypatch.setattr("evaluation.toolbench.inference.engine.kernels.triton_probe.copy_numbers", launch)
    assert not triton_works(torch.device("cpu"))
    assert "Failed to find C compiler" in caplog.text
