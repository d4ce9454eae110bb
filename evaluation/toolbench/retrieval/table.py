"""Shows the numbers of all sets as one table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.retrieval.metrics import NDCG_CUTOFFS, RECALL_CUTOFFS
from evaluation.toolbench.retrieval.results import SetResult

_NAME = 32  # characters of the first column, at least
_COLUMNS = (
    ("queries", 9),
    *((f"upstream@{k}" if k == 1 else f"@{k}", 12 if k == 1 else 6) for k in NDCG_CUTOFFS),
    *((f"ndcg@{k}" if k == 1 else f"@{k}", 9 if k == 1 else 6) for k in NDCG_CUTOFFS),
    *((f"recall@{k}" if k == 1 else f"@{k}", 10 if k == 1 else 6) for k in RECALL_CUTOFFS),
    ("mrr", 7),
    ("no tool", 9),
)
_CORRECTED = [*(f"ndcg@{k}" for k in NDCG_CUTOFFS), *(f"recall@{k}" for k in RECALL_CUTOFFS), "mrr"]


def table(results: Sequence[SetResult]) -> list[str]:
    """Make two lines for each set: the numbers in percent, and the standard errors of the corrected ones below them."""
    width = max([_NAME, *(len(result.each.name) for result in results)])
    lines = [_line(width, "", [heading for heading, _ in _COLUMNS])]
    for result in results:
        numbers = [
            str(result.counts["queries"]),
            *(_percent(result.upstream[f"ndcg@{k}"]) for k in NDCG_CUTOFFS),
            *(_percent(result.corrected[name].mean) for name in _CORRECTED),
            _percent(result.share("first predictions that are not candidates", "queries")),
        ]
        errors = [f"±{_percent(result.corrected[name].standard_error)}" for name in _CORRECTED]
        lines.append(_line(width, result.each.name, numbers))
        lines.append(_line(width, "", ["", *("" for _ in NDCG_CUTOFFS), *errors, ""]).rstrip())
    return lines


def notes(results: Sequence[SetResult], formats: NumberFormats) -> list[str]:
    """Say what the table does not say by itself."""
    lines = [
        "Percent, with standard errors over queries. upstream is ToolGen's NDCG, whose ideal ranking is made of the",
        "hits alone; all others have the right one. recall@10 and mrr are of a search for ten. no tool: the first",
        "prediction is not a tool.",
    ]
    shared = sum(result.counts["labels that several tools share"] for result in results)
    if shared:
        hits = sum(result.counts["hits on labels that several tools share"] for result in results)
        lines.append(f"{shared} labels are names that several tools share, and {hits} hits are on these.")
    if (formats.weights, formats.kv_cache) != (AUTO, AUTO):
        lines.append(f"The model was held in {formats.in_words}.")
    return lines


def _line(width: int, name: str, cells: Sequence[str]) -> str:
    return name.ljust(width) + "".join(cell.rjust(size) for cell, (_, size) in zip(cells, _COLUMNS, strict=True))


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
