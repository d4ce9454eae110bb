"""The benchmark of number formats: it runs without a GPU, and a format that changes nothing shows no difference."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from benchmarks import fidelity
from benchmarks.fidelity import Outcome


def test_a_tiny_run_compares_each_format_with_the_plain_model(capsys):
    assert fidelity.main(["--shape", "tiny", "--formats", "auto,int8", "--texts", "2", "--actions", "3"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    same, int8 = report["formats"]["auto"], report["formats"]["int8"]
    assert (same["equal_tokens"], same["same_actions"], same["same_next_token"]) == (1, 1, 1)
    assert same["kl_mean"] == pytest.approx(0, abs=1e-6)
    assert 1e-6 < int8["kl_mean"] < 0.1


def test_tokens_count_as_equal_until_two_texts_part_and_wherever_they_meet_again():
    found = fidelity._compared(Outcome([(1, 2, 3, 4), (5, 6)], [7, 8]), Outcome([(1, 9, 3, 4), (5, 6)], [7, 0]))
    assert found == {"equal_tokens": 5 / 6, "until_parted": 3 / 6, "same_texts": 0.5, "same_actions": 0.5}


def test_structured_weights_have_outliers_and_rows_of_unequal_sizes():
    torch.manual_seed(0)
    white, linear = torch.randn(512, 1024) / 32, nn.Linear(1024, 512, bias=False)
    with torch.no_grad():
        fidelity._structure(linear.weight)
    weight = linear.weight.detach()
    assert weight.std() == pytest.approx(float(white.std()), rel=0.1)
    assert weight.norm(dim=0).max() > 4 * white.norm(dim=0).max()
    assert weight.norm(dim=1).std() > 4 * white.norm(dim=1).std()
