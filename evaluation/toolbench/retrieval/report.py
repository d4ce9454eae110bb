"""Makes the page of an evaluation: its numbers, and each query's relevant tools beside ten predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.records.run_record import RunRecord
from evaluation.toolbench.inference.run_report.html import ASSETS, Page, build_page
from evaluation.toolbench.retrieval.query_log import Outcome
from evaluation.toolbench.retrieval.results import SetResult, summary_of

_OWN = Path(__file__).parent / "page"
PAGE = Page(
    "ToolGen retrieval",
    _OWN / "template.html",
    [ASSETS / "report.css", _OWN / "retrieval.css"],
    [ASSETS / "words.js", _OWN / "words.js", ASSETS / "state.js", ASSETS / "dom.js", _OWN / "retrieval.js"],
)


def report_page(
    title: str, described: Mapping[str, Any], record: RunRecord | None, results: Sequence[SetResult]
) -> str:
    """Build the page, one HTML file that needs nothing else. `described` says what was run, in plain values."""
    texts = _Texts()
    data = {
        "title": title,
        "described": dict(described),
        "run": record.to_json() if record else None,
        "sets": [_set(result, texts) for result in results],
        "texts": texts.all,
    }
    return build_page(data, title, PAGE)


class _Texts:
    """Keeps each text of a tool once: queries name it by its number."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._number_of: dict[str, int] = {}

    def number(self, text: str) -> int:
        if text not in self._number_of:
            self._number_of[text] = len(self.all)
            self.all.append(text)
        return self._number_of[text]


def _set(result: SetResult, texts: _Texts) -> dict[str, Any]:
    candidates = frozenset(result.each.candidates)
    predicted = {text for outcome in result.outcomes for text in outcome.wider_texts}
    return {
        "name": result.each.name,
        **summary_of(result),
        "off_space": [texts.number(text) for text in sorted(predicted - candidates)],
        "queries": [
            {
                "id": str(query.query_id),  # a browser knows no number of more than 53 bits
                "text": query.text,
                "labels": [texts.number(text) for text in dict.fromkeys(query.labels)],
                "problem": query.problem,
                "wider": _predictions(outcome, texts),
                "five": [texts.number(text) for text in outcome.texts],
            }
            for query, outcome in zip(result.each.queries, result.outcomes, strict=True)
        ],
    }


def _predictions(outcome: Outcome, texts: _Texts) -> list[tuple[int, float]]:
    """Return each text with its probability after the prompt, the end token included."""
    return [(texts.number(each.text), float(f"{math.exp(each.log_probability):.4g}")) for each in outcome.wider]
