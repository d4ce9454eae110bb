"""The benchmark of the host's part of a step runs without a GPU, and a step that repeats queues next to nothing."""

from __future__ import annotations

import json

import pytest

from benchmarks import host_step


def measured(capsys, *options: str) -> list[dict]:
    assert host_step.main(["--layers", "4", "--steps", "20", *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]


def test_every_part_of_a_step_is_measured(capsys):
    lines = measured(capsys, "--conversations", "1,5", "--stages", "1,2")
    assert len(lines) == 2 * 2 * 2
    for line in lines:
        assert all(line[part] > 0 for part in host_step.PARTS)
        assert line["total"] == pytest.approx(sum(line[part] for part in host_step.PARTS), abs=0.001)


@pytest.mark.parametrize(("stages", "most"), [(1, 2), (3, 8)])
def test_a_greedy_step_is_a_copy_in_a_graph_for_each_stage_and_a_copy_out(capsys, stages, most):
    for count in ("3", "30"):  # whatever the number of conversations
        [line] = measured(capsys, "--conversations", count, "--stages", str(stages), "--work", "decode")
        assert line["operations"] <= most


def test_a_step_of_special_draws_queues_as_much_for_many_as_for_few(capsys):
    few, many = (
        measured(capsys, "--conversations", count, "--work", "decode", "--sampled", "--restricted")[0]["operations"]
        for count in ("2", "30")
    )
    assert few == many < 90


def test_a_gpu_that_is_not_there_is_said(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert host_step.main(["--device", "cuda"]) == 2
    assert "found 0" in capsys.readouterr().err
