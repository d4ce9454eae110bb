"""Puts runs side by side and writes the page that compares them: every query of each, tests of each pair of runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.records.run_record import put_file
from evaluation.toolbench.inference.run_report.compared_runs import ComparedRun, RunSet, read_runs
from evaluation.toolbench.inference.run_report.html import COMPARISON_PAGE, build_page
from evaluation.toolbench.inference.run_report.paired import LEVEL, NUM_RESAMPLES, agreement, paired_means
from evaluation.toolbench.inference.run_report.report import Query, compressed, detail_of, natural
from evaluation.toolbench.inference.run_report.totals import api_statistics

COMPARISON_FILE = "comparison.html"

_QUERIES_PER_BLOCK = 12  # compressed together, with what all runs made of them
_OF_A_ROW = ("outcome", "answer", "steps", "calls", "errors", "missed", "seconds", "tokens", "tries")
_MEANS = ("steps", "calls", "errors", "missed", "tokens", "seconds")

Outcomes = list[tuple[Any, Any]]  # of left and right, a pair for each query that both have


def write_comparison(folders: Sequence[Path], output: Path | None = None, scores: Sequence[Path] = ()) -> Path:
    """Build the page of `folders` from what is on disk; return where it was written, by default in the first one.

    ConfigError and DataError where they cannot be compared (see `read_runs`), OutputError when the page cannot be
    written.
    """
    runs = read_runs(folders, scores)
    if len(runs) < 2:
        raise ConfigError("there is one run to compare: name the folders of two")
    data = comparison_data(runs)
    output = output or folders[0] / COMPARISON_FILE
    put_file(output, build_page(data, title=data["title"], page=COMPARISON_PAGE))
    return output


def comparison_data(runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """Collect what the page shows, as JSON values."""
    ids = sorted({each for run in runs for each in run.ids()}, key=lambda each: (each[0], natural(each[1])))
    sets = sorted({name for name, _ in ids})
    details = [[_detail(run, *each) for run in runs] for each in ids]
    return {
        "title": " · ".join(run.name for run in runs),
        "built": round(time.time()),
        "runs": [_run(run) for run in runs],
        "sets": sets,
        "level": LEVEL,
        "resamples": NUM_RESAMPLES,
        "rows": [_row(runs, *each, position) for position, each in enumerate(ids)],
        "pairs": {
            f"{left}-{right}": _tests(runs[left], runs[right], sets)
            for left, right in combinations(range(len(runs)), 2)
        },
        "blocks": [
            compressed(details[start : start + _QUERIES_PER_BLOCK])
            for start in range(0, len(details), _QUERIES_PER_BLOCK)
        ],
        "queries_per_block": _QUERIES_PER_BLOCK,
    }


def _run(run: ComparedRun) -> dict[str, Any]:
    judged = [each.judgements for each in run.sets.values() if each.judgements is not None]
    attempts = [query.attempt for each in run.sets.values() for query in each.queries.values()]
    api = api_statistics([call for attempt in attempts if attempt for call in attempt.calls])
    return {
        "name": run.name,
        "method": run.method,
        "model_path": run.model_path,
        "queries": len(run.ids()),
        "calls": api.calls,
        "simulated": api.simulated,
        "simulator": run.simulator,
        "judged_sets": len(judged),
        "judges": sorted({model for each in judged for model in each.models}),
        "repeats": max((each.num_repeats for each in judged), default=0),
    }


def _row(runs: Sequence[ComparedRun], test_set: str, query_id: str, position: int) -> dict[str, Any]:
    of_runs = [run.sets.get(test_set, RunSet({})) for run in runs]
    queries = [each.queries.get(query_id) for each in of_runs]
    signs = _Signs()
    return {
        "key": f"{test_set}/{query_id}" if test_set else query_id,
        "set": test_set,
        "id": query_id,
        "query": next((query.answer.query for query in queries if query and query.answer.query), ""),
        "position": position,
        "cells": [
            _cell(query, of_run, signs) if query else None for query, of_run in zip(queries, of_runs, strict=True)
        ],
        "tools": list(signs.tools),
    }


def _cell(query: Query, of_run: RunSet, signs: _Signs) -> dict[str, Any]:
    query_id = query.answer.query_id
    row = of_run.rows[query_id]
    score = of_run.score(query_id)
    return {
        **{key: row[key] for key in _OF_A_ROW},
        "status": of_run.status(query_id),
        "score": None if score is None else round(score, 4),
        "path": signs.path(query),
    }


class _Signs:
    """Gives tools, calls and replies of a query small numbers, equal ones to equal texts in whichever run."""

    def __init__(self) -> None:
        self.tools: dict[str, int] = {}
        self._calls: dict[Any, int] = {}
        self._replies: dict[Any, int] = {}

    def path(self, query: Query) -> list[list[int]] | None:
        """Return [tool, call, reply] of each step, tool -1 for a thought; None where the texts are not known."""
        steps = list(query.answer.steps())
        if not steps or any(step.action is not None and step.arguments is None for step in steps):
            return None
        return [
            [
                -1 if step.action is None else self.tools.setdefault(step.action, len(self.tools)),
                self._calls.setdefault((step.action, step.arguments), len(self._calls)),
                self._replies.setdefault((step.observation, step.code), len(self._replies)),
            ]
            for step in steps
        ]


def _detail(run: ComparedRun, test_set: str, query_id: str) -> dict[str, Any] | None:
    of_run = run.sets.get(test_set)
    query = of_run.queries.get(query_id) if of_run else None
    if of_run is None or query is None:
        return None
    detail = detail_of(query)
    judgement = of_run.judgements.by_query.get(query_id) if of_run.judgements else None
    if judgement is not None:
        detail["statuses"] = [list(each) for each in sorted(judgement.statuses.items())]
        detail["remarks"] = [asdict(each) for each in sorted(judgement.remarks, key=lambda each: each.repeat)]
    return detail


def _tests(left: ComparedRun, right: ComparedRun, sets: Sequence[str]) -> dict[str, Any]:
    """Return the tests of each set that both have, and of all sets together under the name "*"."""
    both = {name: (left.sets[name], right.sets[name]) for name in sets if name in left.sets and name in right.sets}
    found = {name: _test([pair]) for name, pair in both.items()}
    return {**found, "*": _test(list(both.values()))}


def _test(pairs: Sequence[tuple[RunSet, RunSet]]) -> dict[str, Any]:
    common = [
        (left, right, query_id)
        for left, right in pairs
        for query_id in sorted(left.queries.keys() & right.queries.keys(), key=natural)
    ]
    rows = [(left.rows[query_id], right.rows[query_id]) for left, right, query_id in common]
    judged = [(left.is_solved(query_id), right.is_solved(query_id)) for left, right, query_id in common]
    scores = [(left.score(query_id), right.score(query_id)) for left, right, query_id in common]
    return {
        "common": len(common),
        "solved": _yes_or_no([pair for pair in judged if None not in pair]),
        "answered": _yes_or_no([(a["outcome"] == "answered", b["outcome"] == "answered") for a, b in rows]),
        "means": dict(_means({"score": scores, **{key: [(a[key], b[key]) for a, b in rows] for key in _MEANS}})),
    }


def _yes_or_no(outcomes: Outcomes) -> dict[str, Any] | None:
    if not outcomes:
        return None
    left, right = ([pair[side] for pair in outcomes] for side in (0, 1))
    shares = paired_means(left, right)
    assert shares is not None
    return {**asdict(agreement(left, right)), **asdict(shares)}


def _means(values: Mapping[str, Outcomes]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, pairs in values.items():
        found = paired_means([left for left, _ in pairs], [right for _, right in pairs])
        if found is not None:
            yield key, asdict(found)
