"""Pages copied for branches: by plain PyTorch, by the kernel under Triton's interpreter, by the kernel on a GPU."""

from __future__ import annotations

import pytest
import torch

from evaluation.toolbench.inference.engine.paged import page_copies
from tests.helpers.page_copy_cases import CASES, check_copies, check_copies_far_away
from tests.helpers.triton_interpreter import interpreted, run_interpreted

GPU = torch.device("cuda", 0)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@each_case
def test_pages_are_copied_and_no_others_change(case):
    check_copies(case, torch.device("cpu"))


@interpreted
@pytest.mark.timeout(300)
def test_the_interpreted_kernel_copies_pages_and_changes_no_others():
    run_interpreted("page_copy_cases.py")


@pytest.mark.gpu
@needs_gpu
@each_case
def test_the_kernel_copies_pages_and_changes_no_others(case):
    assert page_copies.has_kernel(GPU)
    check_copies(case, GPU)


@pytest.mark.gpu
@needs_gpu
def test_the_kernel_copies_pages_that_lie_gigabytes_apart():
    check_copies_far_away(GPU)


@pytest.mark.gpu
@needs_gpu
@each_case
def test_a_gpu_where_triton_does_not_work_copies_the_same(case, monkeypatch):
    monkeypatch.setattr(page_copies, "has_kernel", lambda device: False)
    check_copies(case, GPU)
