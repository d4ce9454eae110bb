"""Follows how far an evaluation is: what each set has and lacks, on disk and in numbers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.number_formats import FORMATS
from evaluation.toolbench.inference.run.earlier_answers import differences
from evaluation.toolbench.retrieval.evaluation_sets import EvaluationSet
from evaluation.toolbench.retrieval.queries import Query
from evaluation.toolbench.retrieval.query_log import NOTHING, Outcome, QueryLog
from evaluation.toolbench.retrieval.results import (
    SetFiles,
    SetResult,
    evaluate,
    scores_of,
    write_metrics,
    write_result,
)

logger = logging.getLogger(__name__)


class SetProgress:
    """Follows one set with its files. `run` says what is run, in plain values, for the files that say so."""

    def __init__(self, each: EvaluationSet, files: SetFiles, run: Mapping[str, Any]) -> None:
        self.each = each
        self.files = files
        self._run = dict(run)
        self._log = QueryLog(files.query_log, {**run, **_digests(each)})
        self._outcomes: dict[str, Outcome] = {}
        self._failed: set[str] = set()

    @property
    def num_done(self) -> int:
        """Return how many queries have an outcome; those that cannot be searched for do not count."""
        return len(self._outcomes)

    @property
    def num_failed(self) -> int:
        return len(self._failed)

    def take_up(self, *, anew: bool) -> None:
        """Read what an earlier run left. OutputError where the log cannot be opened."""
        earlier = {} if anew else self._log.read()
        if earlier is None:
            logger.warning(
                "%s is of other flags, another model or other data: %s begins anew", self._log.path, self.each.name
            )
        wanted = {str(query.query_id) for query in self.each.queries if not query.problem}
        self._outcomes = {key: outcome for key, outcome in (earlier or {}).items() if key in wanted}
        self._log.begin(anew=anew or earlier is None)

    def other_formats(self) -> list[str]:
        """Return how the formats of an earlier run's outcomes differ, as "<name>: <old> -> <new>". OutputError."""
        earlier = self._log.earlier_fingerprint()
        return [] if earlier is None else differences(_formats(earlier), _formats(self._run))

    def left(self) -> Iterator[Query]:
        """Return the queries to be searched for, in their order."""
        return (query for query in self.each.queries if not query.problem and str(query.query_id) not in self._outcomes)

    @property
    def is_complete(self) -> bool:
        return not any(str(query.query_id) not in self._failed for query in self.left())

    def note(self, query: Query, outcome: Outcome) -> None:
        """Keep what came of a query. OutputError."""
        self._outcomes[str(query.query_id)] = outcome
        self._log.add(_described(query, outcome), outcome)

    def note_failure(self, query: Query) -> None:
        """Count a query that failed: it scores 0, and the next run tries it again."""
        self._failed.add(str(query.query_id))

    def finish(self, model: str) -> SetResult:
        """Write the files of a set that is complete. OutputError."""
        outcomes = [self._outcomes.get(str(query.query_id), NOTHING) for query in self.each.queries]
        result = evaluate(self.each, outcomes)
        pairs = list(zip(self.each.queries, outcomes, strict=True))
        self._log.finish(
            (_described(query, outcome), outcome) for query, outcome in pairs if str(query.query_id) in self._outcomes
        )
        write_metrics(self.files.metrics, {**self._run, "failed": sorted(self._failed)}, result)
        write_result(self.files.result, model, result)
        return result

    def close(self) -> None:
        self._log.close()


def _formats(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: run.get(name, AUTO) for name in FORMATS}


def _described(query: Query, outcome: Outcome) -> dict[str, Any]:
    return {
        "query_id": query.query_id,
        "query": query.text,
        "docids": list(query.docids),
        "labels": list(query.labels),
        "label_ranks": dict(scores_of(query, outcome).label_ranks),
    }


def _digests(each: EvaluationSet) -> dict[str, Any]:
    """Return what decides the outcomes of a set beside the model and the flags of the run."""
    texts = [[query.query_id, query.text, list(query.docids), list(query.labels)] for query in each.queries]
    return {
        "stage": each.stage,
        "split": each.split,
        "constrained": each.is_constrained,
        "limited_to_stage_space": each.is_limited,
        "queries": _digest(texts),
        "candidates": _digest(sorted(each.candidates)) if each.is_constrained else "",
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
