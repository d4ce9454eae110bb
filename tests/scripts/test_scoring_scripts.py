"""The scoring scripts, as ToolGen's users call them: one after the other over a data folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.fake_generation_server import running
from tests.helpers.fake_judge import FakeJudge
from tests.helpers.pipeline import ROOT
from tests.helpers.scoring import EXAMPLE


def run(script, cwd, *arguments, **settings):
    usual = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *arguments],
        cwd=cwd,
        env={**usual, "PYTHON": sys.executable, **settings},
        text=True,
        capture_output=True,
    )


@pytest.mark.slow
def test_answers_become_a_pass_rate_and_a_preference(tmp_path):
    shutil.copytree(EXAMPLE / "answer", tmp_path / "my answers")
    shutil.copytree(EXAMPLE / "test_query_ids", tmp_path / "ids")
    paths = {
        "RAW_ANSWER_PATH": "my answers",
        "CONVERTED_ANSWER_PATH": "converted",
        "TEST_IDS_PATH": "ids",
        "TEST_SET": "G9_demo",
    }
    for model, method in (("tram-cot", "CoT@1"), ("tram-dfs", "DFS_woFilter_w2")):
        done = run("convert_answer/run_convert_answer.sh", tmp_path, MODEL_NAME=model, METHOD=method, **paths)
        assert (done.returncode, done.stdout) == (0, "Converted 3 answers\n"), done.stderr
    with running(FakeJudge()) as judge:
        judge_is = {**paths, "JUDGE_URL": judge.url}
        for model in ("tram-cot", "tram-dfs"):
            done = run("pass_rate/run_pass_rate.sh", tmp_path, CANDIDATE_MODEL=model, SAVE_PATH="rates", **judge_is)
            assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Solve rate: 33.33% Std: 0.00%\n")
        assert len(judge.requests) == 9
        done = run(
            "preference/run_preference.sh",
            tmp_path,
            *("--evaluate_times", "2"),
            **judge_is,
            REFERENCE_MODEL="tram-dfs",
            CANDIDATE_MODEL="tram-cot",
            PASS_RATE_PATH="rates",
            SAVE_PATH="preferences",
        )
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "preferences/G9_demo_tram-dfs_tram-cot_results.json").read_text())
    assert results["win_rate"] + results["lose_rate"] + results["tie_rate"] == 1


@pytest.mark.parametrize(
    ("script", "variable"),
    [
        ("convert_answer/run_convert_answer.sh", "RAW_ANSWER_PATH"),
        ("pass_rate/run_pass_rate.sh", "CANDIDATE_MODEL"),
        ("preference/run_preference.sh", "REFERENCE_MODEL"),
    ],
)
def test_help_names_the_variables(tmp_path, script, variable):
    done = run(script, tmp_path, "--help")
    assert done.returncode == 0
    assert variable in done.stdout


def test_a_model_that_is_not_named_is_said(tmp_path):
    done = run("convert_answer/run_convert_answer.sh", tmp_path)
    assert done.returncode == 2
    assert "Set MODEL_NAME" in done.stderr
