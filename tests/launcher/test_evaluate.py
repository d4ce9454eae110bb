"""From queries to a table with one command, each step going on where an earlier one ended."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.toolbench.inference.run_report.set_figures import SetFigures
from evaluation.toolbench.launcher.evaluate import _write_tables, make_parser
from evaluation.toolbench.tooleval.evaluation_table import EvaluationRow
from tests.helpers.pipeline import ROOT, environment


def evaluate(output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts/evaluate.sh"), *flags],
        env=environment(None, OUTPUT_DIR=str(output)),
        text=True,
        capture_output=True,
        check=False,
        timeout=280,
    )


def test_flags_of_the_run_and_of_judging_are_known_together():
    options = make_parser().parse_args(["--limit", "3", "--evaluator", "fac", "--overwrite", "--sets", "all"])
    assert (options.limit, options.evaluator, options.overwrite, options.sets) == (3, "fac", True, "all")


def test_tables_are_written_also_where_nobody_reads_them(tmp_path, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as gone, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        _write_tables(tmp_path, [EvaluationRow("m", "G1", SetFigures(tmp_path, "CoT@1"))])
        with contextlib.suppress(OSError):
            gone.close()
    assert {path.name for path in tmp_path.iterdir()} == {f"table.{ending}" for ending in ("txt", "md", "csv", "tex")}


@pytest.mark.slow
def test_the_demo_is_evaluated_to_a_table_and_a_second_time_without_a_run(tmp_path):
    first = evaluate(tmp_path / "demo", "--limit", "6")
    assert first.returncode == 0, first.stderr
    [row] = csv.DictReader((tmp_path / "results/table.csv").open())
    assert (row["model"], row["set"], row["queries"], row["answered"]) == ("demo", "demo_queries", "6", "6")
    assert float(row["solve_rate"]) == float(row["solve_rate_all"]) > 50
    for ending in ("txt", "md", "tex"):
        assert "demo" in (tmp_path / f"results/table.{ending}").read_text()
    verdicts = next((tmp_path / "results/pass_rate").rglob("*_verdicts.jsonl"))
    before = verdicts.read_bytes()

    second = evaluate(tmp_path / "demo", "--limit", "6")
    assert second.returncode == 0, second.stderr
    assert "Nothing to do: all 6 queries are answered" in second.stdout
    assert verdicts.read_bytes() == before
    assert list(csv.DictReader((tmp_path / "results/table.csv").open())) == [row]


@pytest.mark.slow
def test_what_cannot_be_scored_is_refused_before_anything_runs(tmp_path):
    ended = evaluate(tmp_path / "demo", "--judge_url", "nowhere")
    assert ended.returncode == 2
    assert not (tmp_path / "demo").exists()
    assert ended.stderr.count("\n") <= 2
