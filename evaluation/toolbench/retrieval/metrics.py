"""Says how good a ranking of tools is: ToolGen's own NDCG, and the numbers with the right ideal ranking.

ToolGen's `ndcg` makes the ideal ranking of the hits alone and gives no rank to predictions that are not candidates,
so it is too high wherever a relevant tool was missed. It is computed here as published numbers were.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NDCG_CUTOFFS = (1, 3, 5)
RECALL_CUTOFFS = (1, 3, 5, 10)
_TOP_SCORE = 100  # ToolGen gives its predictions the scores 100, 99, 98, ...


def upstream_ndcg(labels: Collection[str], predictions: Sequence[str], candidates: Collection[str], k: int) -> float:
    """Compute ToolGen's NDCG@k of one query, adding in the order in which scikit-learn's `ndcg_score` does.

    >>> upstream_ndcg(["A", "B", "C"], ["A", "D"], ["A", "B", "C", "D"], 5)  # 1 of 3 relevant tools found
    1.0
    """
    score_of = {text: _TOP_SCORE - rank for rank, text in enumerate(predictions) if text in candidates}
    ranked = sorted(score_of, key=lambda text: -score_of[text])
    relevance = np.array([text in labels for text in ranked], dtype=np.float64)
    hits = int(relevance.sum())
    if not hits:
        return 0.0
    discounts = 1 / (np.log(np.arange(max(len(ranked), hits)) + 2) / np.log(2))
    discounts[k:] = 0.0
    gains = np.diff(np.cumsum(discounts), prepend=0.0)[: len(ranked)]
    return float((relevance * gains).sum() / discounts[:hits].sum())


@dataclass(frozen=True, slots=True)
class Scores:
    """Holds the corrected numbers of a query, each between 0 and 1, by names such as `ndcg@5`, `recall@10`, `mrr`."""

    values: Mapping[str, float]
    label_ranks: Mapping[str, int]  # of the labels that were found, from 1


def corrected_scores(labels: Collection[str], predictions: Sequence[str], wider: Sequence[str]) -> Scores:
    """Compute NDCG and recall of `predictions`; recall@10 and the reciprocal rank of `wider`, a search for ten.

    Every prediction takes a rank, also one that is not a candidate or was there before; every label counts once.
    A query without labels scores 0.

    >>> corrected_scores(["A", "B"], ["C", "A"], ["C", "A"]).values["recall@3"]
    0.5
    """
    relevant = frozenset(labels)
    ranks = _ranks(relevant, predictions)
    wider_ranks = _ranks(relevant, wider)
    values = {f"ndcg@{k}": _ndcg(ranks, len(relevant), k) for k in NDCG_CUTOFFS}
    for k in RECALL_CUTOFFS:
        found = wider_ranks if k > max(NDCG_CUTOFFS) else ranks
        values[f"recall@{k}"] = sum(rank <= k for rank in found.values()) / max(len(relevant), 1)
    values["mrr"] = 1 / min(wider_ranks.values()) if wider_ranks else 0.0
    return Scores(values, wider_ranks)


@dataclass(frozen=True, slots=True)
class Mean:
    """Holds a mean over queries and its standard error, which is not known (NaN) of a single query."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Mean:
        """Average `values`; NaN without any.

        >>> Mean.of([0.0, 1.0])
        Mean(mean=0.5, standard_error=0.5)
        """
        array = np.fromiter(values, dtype=np.float64)
        mean = float(array.mean()) if len(array) else math.nan
        error = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else math.nan
        return cls(mean, error)


def _ranks(labels: frozenset[str], predictions: Sequence[str]) -> dict[str, int]:
    """Return the first rank, from 1, of each label that was predicted."""
    ranks: dict[str, int] = {}
    for rank, text in enumerate(predictions, start=1):
        if text in labels:
            ranks.setdefault(text, rank)
    return ranks


def _ndcg(ranks: Mapping[str, int], num_relevant: int, k: int) -> float:
    gain = sum(1 / math.log2(rank + 1) for rank in ranks.values() if rank <= k)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, num_relevant) + 1))
    return gain / ideal if ideal else 0.0
