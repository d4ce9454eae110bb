"""The benchmark of matrix products runs from end to end without a GPU when asked to, and says so otherwise."""

import json

import pytest
import torch

from benchmarks import matrix_products


def test_every_number_of_rows_is_timed_both_ways(monkeypatch, capsys):
    monkeypatch.setattr(matrix_products, "ROWS", (2, 3))
    monkeypatch.setattr(matrix_products, "HEAD_ROWS", (1,))
    assert matrix_products.main(["--tiny"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: list(times) for name, times in facts.items()} == {
        "separate_ms": ["2", "3"],
        "joined_ms": ["2", "3"],
        "head_whole_ms": ["1"],
        "head_pieces_ms": ["1"],
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert matrix_products.main([]) == 2
    assert capsys.readouterr().err == "needs 1 GPU, found 0: give --tiny to try the command\n"
