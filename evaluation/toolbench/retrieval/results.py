"""Computes the numbers of one set, and writes its two files: ToolGen's own, and one with everything else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.records.run_record import put_file
from evaluation.toolbench.retrieval.evaluation_sets import EvaluationSet
from evaluation.toolbench.retrieval.metrics import NDCG_CUTOFFS, Mean, Scores, corrected_scores, upstream_ndcg
from evaluation.toolbench.retrieval.queries import Query
from evaluation.toolbench.retrieval.query_log import Outcome

_LENGTH_OF_PRED = 100  # ToolGen fills its list of predictions up with empty texts


@dataclass(frozen=True)
class SetFiles:
    """Names the files of a set. `prefix` is a text, not a folder; nothing is put between it and the name."""

    result: Path  # ToolGen's own file, with its name
    metrics: Path
    query_log: Path

    @classmethod
    def of(cls, prefix: str, model_path: str, indexing: str, template: str, each: EvaluationSet) -> SetFiles:
        way = "_constrained" if each.is_constrained else ""
        stem = f"{prefix}{model_name(model_path)}{way}_{indexing}_{each.stage}_{each.split}"
        # ToolGen's name says neither of these, and runs that differ in them share a file of its own.
        beside = f"{stem}{'_stage_space' if each.is_limited else ''}_{template}"
        return cls(Path(f"{stem}.json"), Path(f"{beside}.metrics.json"), Path(f"{beside}.queries.jsonl"))


def model_name(model_path: str) -> str:
    """Return the last part of the path, as ToolGen names its files; a slash at its end makes no difference here."""
    return model_path.rstrip("/").split("/")[-1]


@dataclass(frozen=True)
class SetResult:
    """Holds what came of a set. `upstream` has ToolGen's NDCG, `corrected` the right one and more; `counts` is of all
    queries, and of their first five predictions."""

    each: EvaluationSet
    outcomes: Sequence[Outcome]  # in the order of its queries
    upstream: Mapping[str, float]
    corrected: Mapping[str, Mean]
    counts: Mapping[str, int]

    def share(self, count: str, of: str) -> float:
        """Return one count as a part of another, NaN of nothing."""
        return self.counts[count] / self.counts[of] if self.counts[of] else math.nan


def evaluate(each: EvaluationSet, outcomes: Sequence[Outcome]) -> SetResult:
    """Compute the numbers of a set from the outcomes of its queries, in their order."""
    candidates = frozenset(each.candidates)
    pairs = list(zip(each.queries, outcomes, strict=True))
    upstream = {
        f"ndcg@{k}": Mean.of(upstream_ndcg(query.labels, outcome.texts, candidates, k) for query, outcome in pairs).mean
        for k in NDCG_CUTOFFS
    }
    scores = [scores_of(query, outcome) for query, outcome in pairs]
    names = list(scores[0].values) if scores else []
    corrected = {name: Mean.of(score.values[name] for score in scores) for name in names}
    return SetResult(each, list(outcomes), upstream, corrected, _counts(each, pairs, candidates))


def scores_of(query: Query, outcome: Outcome) -> Scores:
    """Compute the corrected numbers of one query."""
    return corrected_scores(query.labels, outcome.texts, outcome.wider_texts)


def write_result(path: Path, model: str, result: SetResult) -> None:
    """Write ToolGen's own file, to the byte: its `logs` have every query once for each cutoff. OutputError."""
    logs = [
        {"label": list(query.labels), "pred": outcome.texts + [""] * (_LENGTH_OF_PRED - len(outcome.texts))}
        for query, outcome in zip(result.each.queries, result.outcomes, strict=True)
    ]
    content = {"model": model, "ndcg": dict(result.upstream), "logs": logs * len(NDCG_CUTOFFS)}
    put_file(path, json.dumps(content, indent=2))


def write_metrics(path: Path, run: Mapping[str, Any], result: SetResult) -> None:
    """Write everything else; `run` says what was run, in plain values. OutputError."""
    put_file(path, json.dumps({**run, **summary_of(result)}, indent=2) + "\n")


def summary_of(result: SetResult) -> dict[str, Any]:
    """Return the numbers as plain values; None for a mean or an error that is not known."""
    each = result.each
    return {
        "stage": each.stage,
        "split": each.split,
        "constrained": each.is_constrained,
        "limited_to_stage_space": each.is_limited,
        "candidates": len(each.candidates),
        "upstream": {name: _plain(value) for name, value in result.upstream.items()},
        "corrected": {
            name: {"mean": _plain(value.mean), "standard_error": _plain(value.standard_error)}
            for name, value in result.corrected.items()
        },
        "counts": dict(result.counts),
        "not searched for": [str(query.query_id) for query in each.queries if query.problem],
        "labels without text": sorted({name for query in each.queries for name in query.without_text}),
    }


def _counts(each: EvaluationSet, pairs: Sequence[tuple[Query, Outcome]], candidates: frozenset[str]) -> dict[str, int]:
    predicted = [text for _, outcome in pairs for text in outcome.texts]
    hits = [set(query.labels) & set(outcome.texts) for query, outcome in pairs]
    return {
        "queries": len(pairs),
        "queries not searched for": sum(bool(query.problem) for query, _ in pairs),
        "queries without label": sum(not query.labels for query, _ in pairs),
        "labels": sum(len(set(query.labels)) for query, _ in pairs),
        "labels without text": sum(len(query.without_text) for query, _ in pairs),
        "labels of unknown documents": sum(len(query.unknown) for query, _ in pairs),
        "labels that several tools share": sum(len(set(query.labels) & each.ambiguous) for query, _ in pairs),
        "hits": sum(map(len, hits)),
        "hits on labels that several tools share": sum(len(found & each.ambiguous) for found in hits),
        "predictions": len(predicted),
        "predictions that are not candidates": sum(text not in candidates for text in predicted),
        "predictions that are repeated": sum(len(outcome.texts) - len(set(outcome.texts)) for _, outcome in pairs),
        "first predictions that are not candidates": sum(
            outcome.texts[0] not in candidates for _, outcome in pairs if outcome.texts
        ),
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
