"""Reads queries and their relevant tools: ToolBench's files as ToolGen reads them, or one in ToolRet's format."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.retrieval.index import Api, Corpus, ToolIndex
from evaluation.toolbench.retrieval.tsv import Id, check_width, ids_of, read_rows


@dataclass(frozen=True, slots=True)
class Query:
    """Holds one query. `problem` says why it cannot be searched for, and is empty otherwise.

    `labels` are the texts of its relevant documents, in the order of `docids`; a text stands twice where two
    documents are the same tool. `without_text` are the names of relevant tools that the index does not have, and
    `unknown` the docids that no document has.
    """

    query_id: Id
    text: str
    docids: tuple[Id, ...]
    labels: tuple[str, ...]
    without_text: tuple[str, ...] = ()
    unknown: tuple[Id, ...] = ()
    problem: str = ""


def query_files(data_dir: Path, stage: str, split: str) -> tuple[Path, Path]:
    """Say where ToolGen looks for the queries and the labels of a split."""
    folder = data_dir / "retrieval" / stage
    if split == "test":
        return folder / "test.query.txt", folder / "qrels.test.tsv"
    return folder / f"test_{stage}_{split}.query.txt", folder / f"qrels.test_{stage}_{split}.tsv"


def corpus_file(data_dir: Path, stage: str) -> Path:
    return data_dir / "retrieval" / stage / "corpus.tsv"


def load_queries(data_dir: Path, stage: str, split: str, corpus: Corpus, index: ToolIndex) -> list[Query]:
    """Read the queries of a split in the order of their first rows; of rows with the same id the last text counts.

    A query that cannot be searched for is kept, with its `problem`. DataError for files that cannot be read.
    """
    query_path, label_path = query_files(data_dir, stage, split)
    query_rows = read_rows(query_path)
    check_width(query_path, query_rows, least=1, most=2)
    label_rows = read_rows(label_path)
    check_width(label_path, label_rows, least=3, most=4)
    for path, rows in ((query_path, query_rows), (label_path, label_rows)):
        if not rows:
            raise DataError(f"{path} is empty: a split needs queries and their relevant documents")
    query_ids, labelled_ids = ids_of(
        [row.fields[0] for row in query_rows],
        [row.fields[0] for row in label_rows],
    )
    document_ids, relevant_ids = ids_of(list(corpus.documents), [row.fields[2] for row in label_rows])
    apis = dict(zip(document_ids, corpus.documents.values(), strict=True))
    # Sets, as ToolGen has them: the order of their numbers is the order of the labels in its result file. That of texts
    # would be another one in every process: they come in the order of their rows.
    relevant: dict[Id, set[Id]] = {}
    for query_id, docid in zip(labelled_ids, relevant_ids, strict=True):
        relevant.setdefault(query_id, set()).add(docid)
    if relevant.keys().isdisjoint(query_ids):
        raise DataError(f"no query of {query_path} has a relevant document in {label_path}. Are the two of one split?")
    texts: dict[Id, str] = {}
    for query_id, row in zip(query_ids, query_rows, strict=True):
        texts[query_id] = row.fields[1] if len(row.fields) > 1 else ""
    if any(isinstance(docid, str) for docid in relevant_ids):
        place = {docid: number for number, docid in enumerate(dict.fromkeys(relevant_ids))}
        ordered = {query_id: sorted(docids, key=place.__getitem__) for query_id, docids in relevant.items()}
    else:
        ordered = {query_id: list(docids) for query_id, docids in relevant.items()}
    return [_labelled(query_id, text, ordered.get(query_id, ()), apis, index) for query_id, text in texts.items()]


def _labelled(query_id: Id, text: str, docids: Collection[Id], apis: Mapping[Id, Api], index: ToolIndex) -> Query:
    labels, without_text, unknown = [], [], []
    for docid in docids:
        api = apis.get(docid)
        if api is None:
            unknown.append(docid)
        elif api.name in index.text_of:
            labels.append(index.text_of[api.name])
        else:
            without_text.append(api.name)
    problem = "the query is empty" if not text.strip() else ""
    return Query(query_id, text, tuple(docids), tuple(labels), tuple(without_text), tuple(unknown), problem)
