"""The benchmark of judging: that it measures scoring itself, and what its exit code says."""

from __future__ import annotations

import json

import pytest

from benchmarks.judge_throughput import main

QUICK = ["--verdicts", "60", "--repeats", "3", "--in_flight", "8", "--latency_s", "0.01"]


@pytest.mark.parametrize(("within", "code"), [("1000", 0), ("-1", 1)])
def test_the_command_ends_with_one_json_line_and_says_whether_too_much_was_lost(capsys, within, code):
    assert main([*QUICK, "--within", within]) == code
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["verdicts"], result["in_flight"]) == (60, 8)
    assert result["ideal_s"] == 0.08  # 60 verdicts in 8 rounds of 10 ms
    assert result["elapsed_s"] >= 0.075
