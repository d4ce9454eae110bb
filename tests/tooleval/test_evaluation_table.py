"""The table of an evaluation, in its four forms."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rich.console import Console

from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.run_report.set_figures import SetFigures
from evaluation.toolbench.tooleval.evaluation_table import EvaluationRow, as_csv, as_latex, as_markdown, as_rich
from evaluation.toolbench.tooleval.pass_rate import PassRate

CACHE = CacheUse(hits=70, fuzzy_hits=6, misses=4, simulated=20)
FIGURES = SetFigures(
    Path("out/G1_tool"), "DFS_w2", 8, 5, 1, 0, 1, tokens=1234, cache=CACHE, spans=((0.0, 9.0), (5.0, 12.0))
)
ROWS = [
    EvaluationRow("my|model_a", "G1_tool", FIGURES, PassRate(50.0, 13.61, 37.5, 23.94, 7.22)),
    EvaluationRow("b & co", "G2_category", SetFigures(Path("out/G2_category"), "CoT@1", 3)),
]


def test_text_has_both_numbers_with_their_errors():
    console = Console(file=io.StringIO(), width=200)
    console.print(as_rich(ROWS))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    counts = ["8", "5", "1", "0", "1", "1"]
    rates = ["50.00", "±", "13.61", "37.50", "±", "23.94"]
    assert ["my|model_a", "G1_tool", "DFS_w2", *counts, *rates, "70", "6", "20", "4", "1234", "12"] in lines
    assert ["b", "&", "co", "G2_category", "CoT@1", "3", "0", "0", "0", "0", "3", "-", "-", *["0"] * 6] in lines


def test_markdown_and_latex_escape_what_means_something_to_them():
    markdown = as_markdown(ROWS).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in markdown}) == 1
    assert "| my\\|model_a | G1_tool |" in markdown[2]
    latex = as_latex(ROWS)
    assert "my|model\\_a & G1\\_tool & DFS\\_w2 & 8 & 5" in latex
    assert "50.00 $\\pm$ 13.61" in latex
    assert "b \\& co" in latex
    odd = as_latex([EvaluationRow("{~^\\}", "G1", FIGURES)])
    assert "\\{\\textasciitilde{}\\textasciicircum{}\\textbackslash{}\\} & G1" in odd


def test_csv_has_every_number_in_a_column_of_its_own():
    first, second = csv.DictReader(io.StringIO(as_csv(ROWS)))
    assert (first["model"], first["queries"], first["tokens"]) == ("my|model_a", "8", "1234")
    assert [first[name] for name in ("hits", "fuzzy", "simulated", "misses")] == ["70", "6", "20", "4"]
    assert (first["solve_rate"], first["std_dev"], first["solve_rate_all"]) == ("50.0000", "13.6100", "37.5000")
    assert (first["stderr_queries"], first["stderr_repeats"]) == ("23.9400", "7.2200")
    assert (second["solve_rate"], second["left"]) == ("", "3")
