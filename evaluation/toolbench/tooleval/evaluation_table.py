"""Makes the table of an evaluation, a row for each model, set and method: text, Markdown, CSV, LaTeX. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evaluation.toolbench.inference.run_report.set_figures import SetFigures
from evaluation.toolbench.tooleval.pass_rate import PassRate

_IN_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "±": "$\\pm$",
    }
)


@dataclass(frozen=True)
class EvaluationRow:
    """`rate` is None where nothing was scored."""

    model: str
    query_set: str
    figures: SetFigures
    rate: PassRate | None = None


@dataclass(frozen=True)
class _Column:
    heading: str
    cell: Callable[[EvaluationRow], str]
    is_number: bool = True


COLUMNS = (
    _Column("model", lambda row: row.model, is_number=False),
    _Column("set", lambda row: row.query_set, is_number=False),
    _Column("method", lambda row: row.figures.method, is_number=False),
    _Column("queries", lambda row: str(row.figures.queries)),
    _Column("answered", lambda row: str(row.figures.answered)),
    _Column("gave up", lambda row: str(row.figures.gave_up)),
    _Column("no answer", lambda row: str(row.figures.no_answer)),
    _Column("failed", lambda row: str(row.figures.failed)),
    _Column("left", lambda row: str(row.figures.left)),
    # ToolEval's number and its deviation over repeats; then over all queries, with the error of having drawn them.
    _Column("solved %", lambda row: _percent(row.rate.solve_rate, row.rate.std_dev) if row.rate else "-"),
    _Column(
        "solved % of all", lambda row: _percent(row.rate.solve_rate_all, row.rate.stderr_queries) if row.rate else "-"
    ),
    # Of the API calls: what was recorded, what a simulator said, what had no reply. It decides what may be compared.
    _Column("hits", lambda row: str(row.figures.cache.hits)),
    _Column("fuzzy", lambda row: str(row.figures.cache.fuzzy_hits)),
    _Column("simulated", lambda row: str(row.figures.cache.simulated)),
    _Column("misses", lambda row: str(row.figures.cache.misses)),
    _Column("tokens", lambda row: str(row.figures.tokens)),
    _Column("seconds", lambda row: f"{row.figures.seconds:.0f}"),
)


def as_rich(rows: Sequence[EvaluationRow]) -> Table:
    """Return the table for a terminal."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column.heading, justify="right" if column.is_number else "left", no_wrap=True)
    for cells in _cells(rows):
        table.add_row(*map(Text, cells))
    return table


def as_csv(rows: Sequence[EvaluationRow]) -> str:
    """Return the table as CSV, with a column for each number and none for two."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*(column.heading for column in COLUMNS if "%" not in column.heading), *PassRate.__dataclass_fields__]
    )
    for row in rows:
        rates = vars(row.rate).values() if row.rate else [None] * len(PassRate.__dataclass_fields__)
        plain = [column.cell(row) for column in COLUMNS if "%" not in column.heading]
        writer.writerow([*plain, *("" if rate is None else f"{rate:.4f}" for rate in rates)])
    return text.getvalue()


def as_markdown(rows: Sequence[EvaluationRow]) -> str:
    lines = [
        _markdown_line([column.heading for column in COLUMNS]),
        _markdown_line(["---:" if column.is_number else "---" for column in COLUMNS]),
        *(_markdown_line([cell.replace("|", "\\|") for cell in cells]) for cells in _cells(rows)),
    ]
    return "\n".join(lines) + "\n"


def as_latex(rows: Sequence[EvaluationRow]) -> str:
    """Return a tabular environment; it needs no package."""
    lines = [
        f"\\begin{{tabular}}{{{''.join('r' if column.is_number else 'l' for column in COLUMNS)}}}",
        "\\hline",
        _latex_line([column.heading for column in COLUMNS]),
        "\\hline",
        *map(_latex_line, _cells(rows)),
        "\\hline",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _cells(rows: Sequence[EvaluationRow]) -> list[list[str]]:
    return [[column.cell(row) for column in COLUMNS] for row in rows]


def _percent(value: float | None, error: float | None) -> str:
    """
    >>> _percent(50.0, 13.61), _percent(50.0, None), _percent(None, None)
    ('50.00 ± 13.61', '50.00', '-')
    """
    if value is None:
        return "-"
    return f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(_latex, cells))} \\\\"


def _latex(text: str) -> str:
    """
    >>> _latex("G1_tool 5% ± 1")
    'G1\\\\_tool 5\\\\% $\\\\pm$ 1'
    """
    return text.translate(_IN_LATEX)
