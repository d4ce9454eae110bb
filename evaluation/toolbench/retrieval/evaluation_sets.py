"""Loads what is evaluated: a stage and a split with or without the constraint, and all known of it before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.retrieval.index import Corpus, ToolIndex, load_corpus, load_index, published_apis
from evaluation.toolbench.retrieval.options import Choice
from evaluation.toolbench.retrieval.queries import Query, corpus_file, load_queries, query_files
from evaluation.toolbench.retrieval.toolret import load_toolret_queries

logger = logging.getLogger(__name__)

_NAMED = 3  # examples in a message


@dataclass(frozen=True)
class EvaluationSet:
    """Holds the queries of one stage and split, searched for in one way.

    `candidates` are the texts that count as tools; `ambiguous` are those that stand for several tools at once.
    """

    stage: str
    split: str
    is_constrained: bool
    is_limited: bool
    queries: Sequence[Query]
    candidates: Sequence[str]
    ambiguous: frozenset[str]

    @property
    def name(self) -> str:
        return f"{self.stage} {self.split} {'constrained' if self.is_constrained else 'unconstrained'}"


def load_sets(choice: Choice) -> list[EvaluationSet]:
    """Load the sets of `choice`. DataError for what cannot be evaluated.

    A stage may lack some of the splits, as G3 does; a stage or a split of which nothing is there is an error.
    """
    index = load_index(choice.data_dir, choice.indexing)
    published = published_apis(choice.data_dir)
    sets: list[EvaluationSet] = []
    for stage, splits in _splits_by_stage(choice).items():
        corpus = _corpus(choice, stage)
        apis = [*published, *(corpus.documents.values() if corpus else ())]
        ambiguous = index.shared_texts(apis)
        candidates = index.candidates(corpus if choice.limited else None)
        if not candidates:
            raise DataError(f"{index.path} has none of the tools in {corpus_file(choice.data_dir, stage)}")
        for split in splits:
            queries = _queries(choice, stage, split, corpus, index)
            _tell_problems(f"{stage} {split}", queries, index)
            sets += [
                EvaluationSet(stage, split, constrained, choice.limited, queries, candidates, ambiguous)
                for constrained in choice.constrained
            ]
    return sets


def _splits_by_stage(choice: Choice) -> dict[str, list[str]]:
    """Return the splits that each stage has, of those asked for."""
    if choice.query_file is not None:
        return {stage: list(choice.splits) for stage in choice.stages}
    found = {
        stage: [split for split in choice.splits if query_files(choice.data_dir, stage, split)[0].is_file()]
        for stage in choice.stages
    }
    for stage in choice.stages:
        for split in choice.splits:
            if split not in found[stage]:
                path = query_files(choice.data_dir, stage, split)[0]
                if not found[stage] or not any(split in splits for splits in found.values()):
                    raise DataError(f"no queries for stage {stage}, split {split}: {path} does not exist")
                logger.warning("%s has no split %s (%s does not exist): left out", stage, split, path)
    return found


def _corpus(choice: Choice, stage: str) -> Corpus | None:
    path = corpus_file(choice.data_dir, stage)
    if choice.query_file is not None and not path.is_file():
        if choice.limited:
            raise ConfigError(f"--limit_to_stage_space needs the stage's corpus, and {path} does not exist")
        return None
    return load_corpus(path)


def _queries(choice: Choice, stage: str, split: str, corpus: Corpus | None, index: ToolIndex) -> list[Query]:
    if choice.query_file is not None:
        return load_toolret_queries(choice.query_file, corpus, index)
    assert corpus is not None  # only a file of queries can do without
    return load_queries(choice.data_dir, stage, split, corpus, index)


def _tell_problems(where: str, queries: Sequence[Query], index: ToolIndex) -> None:
    """Warn of everything in the data that lowers the numbers, with the first examples."""
    bad = [f"{query.query_id} ({query.problem})" for query in queries if query.problem]
    if bad:
        logger.warning("%s: %s cannot be searched for and score 0: %s", where, _count(bad, "query"), _first(bad))
    without = [name for query in queries for name in query.without_text]
    if without:
        names = list(dict.fromkeys(without))
        logger.warning(
            "%s: %s of %s without an entry in %s cannot be found and are left out: %s",
            where,
            _count(without, "label"),
            _count(names, "tool"),
            index.path.name,
            _first(names),
        )
    unknown = [str(docid) for query in queries for docid in query.unknown]
    if unknown:
        logger.warning("%s: %s that no document has are left out: %s", where, _count(unknown, "label"), _first(unknown))
    unlabelled = [str(query.query_id) for query in queries if not query.labels]
    if unlabelled:
        logger.warning(
            "%s: %s without a relevant tool score 0: %s", where, _count(unlabelled, "query"), _first(unlabelled)
        )


def _count(items: Sequence[str], noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{len(items)} {noun if len(items) == 1 else plural}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
