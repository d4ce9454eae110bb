"""Main memory is what the machine has free and the container or job allows, whichever is less."""

from types import SimpleNamespace

import psutil
import pytest

from evaluation.toolbench.inference.host_memory import available_bytes, memory_limit
from evaluation.toolbench.inference.multi_gpu.units import GIB


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """64 GiB are free on the machine; writes files below a cgroup file system of its own."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))

    def set_up(group, files):
        (tmp_path / "own").write_text(group)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path / "cgroup", tmp_path / "own"

    return set_up


@pytest.mark.parametrize(
    ("group", "files", "free", "limit"),
    [
        # a container of version 2, which sees its own group at the top
        ("0::/\n", {"memory.max": 16 * GIB, "memory.current": 4 * GIB}, 12, 16),
        ("0::/\n", {"memory.max": "max", "memory.current": 4 * GIB}, 64, None),
        # the group that the machine knows is not there inside the container
        ("0::/docker/0a1b\n", {"memory.max": 16 * GIB, "memory.current": GIB}, 15, 16),
        # a SLURM job: the limit is set above the step
        (
            "0::/system.slice/slurmstepd.scope/job_7/step_0\n",
            {
                "system.slice/slurmstepd.scope/job_7/memory.max": 8 * GIB,
                "system.slice/slurmstepd.scope/job_7/memory.current": 3 * GIB,
                "system.slice/slurmstepd.scope/job_7/step_0/memory.max": "max",
            },
            5,
            8,
        ),
        # file cache goes when memory is short
        ("0::/\n", {"memory.max": 8 * GIB, "memory.current": 8 * GIB, "memory.stat": f"inactive_file {6 * GIB}"}, 6, 8),
        # version 1
        (
            "4:memory:/job\n1:cpu:/job\n",
            {"memory/job/memory.limit_in_bytes": 8 * GIB, "memory/job/memory.usage_in_bytes": 2 * GIB},
            6,
            8,
        ),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": 9_223_372_036_854_771_712}, 64, None),
        # a limit above what the machine has
        ("0::/\n", {"memory.max": 512 * GIB, "memory.current": GIB}, 64, 512),
        # more in use than the limit, which may be lowered at any time
        ("0::/\n", {"memory.max": GIB, "memory.current": 2 * GIB}, 0, 1),
        ("0::/\n", {"memory.max": "nonsense", "memory.current": "?"}, 64, None),
        ("", {}, 64, None),
    ],
)
def test_the_limit_that_counts_is_the_lowest(machine, group, files, free, limit):
    cgroups, own = machine(group, files)
    assert available_bytes(cgroups, own) == free * GIB
    assert memory_limit(cgroups, own) == (None if limit is None else limit * GIB)


def test_without_cgroups_it_is_the_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    assert available_bytes(tmp_path / "none", tmp_path / "none") == 64 * GIB
