"""Reads queries in ToolRet's format, `{"id", "query", "labels": [{"id", "relevance"}]}`: a list, or one a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.json_input import JsonError, parse_json, read_text, whole_text
from evaluation.toolbench.retrieval.index import Corpus, ToolIndex
from evaluation.toolbench.retrieval.queries import Query


def load_toolret_queries(path: Path, corpus: Corpus | None, index: ToolIndex) -> list[Query]:
    """Read the queries of a file, in its order. DataError names what is malformed, or the id that is repeated.

    A label's id is looked for among the docids of `corpus`, then among the ToolBench names of `index`, then among its
    texts. A label of relevance 0 or less is not relevant; all others count the same. `labels` may also be a text that
    holds the list as JSON, as the published data set has it.
    """
    queries: dict[str, Query] = {}
    texts = frozenset(index.text_of.values())
    for number, entry in enumerate(_entries(path), start=1):
        where = f"{path}, entry {number}"
        query = _read_query(entry, where, corpus, index, texts)
        if query.query_id in queries:
            raise DataError(f"{where}: the id {query.query_id!r} appears twice. Give each query an id of its own")
        queries[str(query.query_id)] = query
    if not queries:
        raise DataError(f"{path} has no queries")
    if not any(query.docids for query in queries.values()):
        raise DataError(f"{path}: no query has a label of relevance above 0")
    return list(queries.values())


def _read_query(entry: Any, where: str, corpus: Corpus | None, index: ToolIndex, texts: frozenset[str]) -> Query:
    if not isinstance(entry, dict) or not isinstance(entry.get("query"), str) or "id" not in entry:
        raise DataError(f'{where} is not an object with "id" and a text under "query"')
    ids = [str(label["id"]) for label in _labels(entry, where) if label.get("relevance", 1) > 0]
    labels, without_text, unknown = [], [], []
    for label_id in dict.fromkeys(ids):
        api = corpus.documents.get(label_id) if corpus else None
        name = api.name if api else label_id
        if name in index.text_of:
            labels.append(index.text_of[name])
        elif api:
            without_text.append(name)
        elif name in texts:
            labels.append(name)
        else:
            unknown.append(label_id)
    return Query(
        query_id=str(entry["id"]),
        text=whole_text(entry["query"]),
        docids=tuple(dict.fromkeys(ids)),
        labels=tuple(labels),
        without_text=tuple(without_text),
        unknown=tuple(unknown),
        problem="" if entry["query"].strip() else "the query is empty",
    )


def _labels(entry: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    labels = entry.get("labels")
    try:
        labels = parse_json(labels) if isinstance(labels, str) else labels
    except JsonError as error:
        raise DataError(f"{where}: labels is a text that is {error}") from error
    if not isinstance(labels, list) or not all(_is_label(label) for label in labels):
        raise DataError(f'{where}: labels is not a list of objects with "id" and, as a number, "relevance"')
    return labels


def _is_label(label: Any) -> bool:
    return isinstance(label, dict) and "id" in label and isinstance(label.get("relevance", 1), int | float)


def _entries(path: Path) -> list[Any]:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    try:
        if text.lstrip().startswith("["):
            entries: list[Any] = parse_json(text)
            return entries
        return [parse_json(line) for line in text.split("\n") if line.strip()]
    except JsonError as error:
        raise DataError(f"{path} is neither a JSON list nor one JSON object a line: {error}") from error
