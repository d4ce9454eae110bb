"""A run is planned from the checkpoint on disk and the GPUs as they are now."""

import pytest

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.multi_gpu import planning
from evaluation.toolbench.inference.multi_gpu.gpu_config import GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import Inspection
from evaluation.toolbench.inference.multi_gpu.planning import plan_run
from tests.helpers.checkpoint import save_tiny_llama
from tests.helpers.placement import gpu


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(planning, "inspect_gpus", Inspection)
    monkeypatch.setattr(planning, "visible_gpus", lambda: (gpu(0, 24), gpu(1, 24)))


@pytest.mark.usefixtures("two_gpus")
def test_a_run_is_planned_over_the_visible_gpus(tmp_path):
    layout = plan_run(str(save_tiny_llama(tmp_path)))

    assert [replica.gpus for replica in layout.replicas] == [(0,), (1,)]
    assert layout.footprint.dtype == "bfloat16"
    assert layout.workload.max_tokens == 128  # the model's context is shorter than the usual longest conversation


@pytest.mark.usefixtures("two_gpus")
def test_num_gpus_and_num_replicas_steer(tmp_path):
    folder = str(save_tiny_llama(tmp_path))
    assert [replica.gpus for replica in plan_run(folder, GpuConfig(num_gpus=1)).replicas] == [(0,)]
    assert [replica.gpus for replica in plan_run(folder, GpuConfig(num_replicas=4)).replicas] == [
        (0,),
        (0,),
        (1,),
        (1,),
    ]


def test_without_a_gpu_there_is_no_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "inspect_gpus", Inspection)
    monkeypatch.setattr(planning, "visible_gpus", lambda: ())
    assert plan_run(str(save_tiny_llama(tmp_path))) is None


def test_a_broken_checkpoint_is_refused_before_any_gpu_is_asked(tmp_path):
    with pytest.raises(DataError, match=r"no config\.json"):
        plan_run(str(tmp_path))
