"""The retrieval script, as a person calls it on a machine without a checkout, data or a GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from evaluation.toolbench.demo import MODEL_DIR
from tests.helpers.pipeline import ROOT

pytestmark = pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason=f"no model in {MODEL_DIR}")


def run(cwd, *arguments, **settings):
    usual = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR", "OMP_NUM_THREADS") if name in os.environ}
    return subprocess.run(
        ["bash", str(ROOT / "scripts/retrieval/eval_toolgen.sh"), *arguments],
        cwd=cwd,
        env={**usual, "PYTHON": sys.executable, **settings},
        text=True,
        capture_output=True,
    )


@pytest.mark.slow
def test_the_demo_is_evaluated_where_there_is_nothing_else(tmp_path):
    done = run(tmp_path, RESULT_PATH=f"{tmp_path}/results/")
    assert done.returncode == 0, done.stderr
    assert "evaluating the bundled demo" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("demo ")]
    assert [row[1:4] for row in rows] == [["seen", "constrained", "24"], ["held_out", "constrained", "51"]]
    assert all(float(row[-4]) > 70 for row in rows)  # recall@5: the demo's model knows its tools
    assert (tmp_path / "results/model_Atomic.report.html").is_file()


def test_what_cannot_be_evaluated_is_one_line_with_the_scripts_name_for_it(tmp_path):
    done = run(tmp_path, STAGES=" ")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("--stage and --split need at least one name each")
    help_text = run(tmp_path, "--help").stdout
    assert "STAGES, SPLITS" in help_text
