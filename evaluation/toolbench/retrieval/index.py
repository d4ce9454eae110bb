"""Lists what a model can name: the text of each tool, and which tools share one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unidecode import unidecode

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.json_input import JsonError, parse_object, read_json, read_text, whole_text
from evaluation.toolbench.names import get_toolbench_name
from evaluation.toolbench.retrieval.tsv import read_rows


@dataclass(frozen=True, slots=True)
class Api:
    """Describes an API of one tool. `name` is its ToolBench name, which other APIs may have too."""

    tool_name: str
    api_name: str

    @property
    def name(self) -> str:
        return get_toolbench_name(self.tool_name, self.api_name)


@dataclass(frozen=True)
class Corpus:
    """Holds the documents of `corpus.tsv`, one API each. Two documents may be the same API."""

    path: Path
    documents: Mapping[str, Api]  # by docid as the file spells it; of equal docids the last one


def load_corpus(path: Path) -> Corpus:
    """Read the corpus of one stage; DataError names the row that cannot be read."""
    rows = read_rows(path)
    if not rows:
        raise DataError(f"{path} is empty: its first line names the columns docid and document_content")
    header = rows[0].fields
    missing = {"docid", "document_content"} - set(header)
    if missing:
        raise DataError(f"{path} has no column {' and none '.join(sorted(missing))}: its columns are {header}")
    id_column, content_column = header.index("docid"), header.index("document_content")
    documents: dict[str, Api] = {}
    for row in rows[1:]:
        if len(row.fields) != len(header):
            raise DataError(f"{path}, line {row.line}: {len(row.fields)} fields under {len(header)} column names")
        docid = row.fields[id_column]
        documents[docid] = _read_document(row.fields[content_column], f"{path}, line {row.line} (docid {docid})")
    return Corpus(path, documents)


def _read_document(content: str, where: str) -> Api:
    try:
        document = parse_object(content)
    except JsonError as error:
        raise DataError(f"{where}: document_content is {error}. Restore ToolBench's file") from error
    names = [document.get(key, "") for key in ("tool_name", "api_name")]
    for key, value in zip(("tool_name", "api_name"), names, strict=True):
        if not isinstance(value, str):
            raise DataError(f"{where}: {key} is {value!r}, not a text. Restore the file from ToolBench's data")
    return Api(*names)


@dataclass(frozen=True)
class ToolIndex:
    """Holds `Tool2<indexing>Id.json`: the text that a model generates for each ToolBench name."""

    path: Path
    text_of: Mapping[str, str]

    def candidates(self, corpus: Corpus | None = None) -> list[str]:
        """Return all texts, DataError where two are equal; with a corpus, the different texts of its APIs."""
        if corpus is None:
            _refuse_equal(self)
            return list(self.text_of.values())
        texts = (self.text_of.get(api.name) for api in corpus.documents.values())
        return list(dict.fromkeys(text for text in texts if text is not None))

    def shared_texts(self, apis: Iterable[Api]) -> frozenset[str]:
        """Return the texts that stand for several of `apis`, because these have the same ToolBench name."""
        owners: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for api in apis:
            owners[api.name].add((unidecode(api.tool_name), unidecode(api.api_name)))
        return frozenset(
            self.text_of[name] for name, pairs in owners.items() if len(pairs) > 1 and name in self.text_of
        )


def load_index(data_dir: Path, indexing: str) -> ToolIndex:
    """Read the index of a `data` folder. DataError for one that is missing or malformed."""
    path = data_dir / "toolenv" / f"Tool2{indexing}Id.json"
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. ToolGen's data has it; --data_dir says where to look") from error
    except (OSError, JsonError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} is not an object of names and texts. Restore the file from ToolGen's data")
    _check_texts(path, content)
    return ToolIndex(path, content)


def _check_texts(path: Path, content: dict[str, Any]) -> None:
    for name, text in content.items():
        if not isinstance(text, str) or not text or text != whole_text(text):
            raise DataError(f"{path}: the entry {name!r} is {text!r}, not a text to generate. Restore the file")


def _refuse_equal(index: ToolIndex) -> None:
    owner: dict[str, str] = {}
    for name, text in index.text_of.items():
        if text in owner:
            raise DataError(
                f"{index.path}: {owner[text]!r} and {name!r} have the same text {text!r}. Give each its own"
            )
        owner[text] = name


def published_apis(data_dir: Path) -> list[Api]:
    """Read the APIs of `virtual_tokens.txt`, whatever the indexing; none where the folder has no such file."""
    try:
        lines = read_text(data_dir / "virtual_tokens.txt").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    pairs = (line.strip()[2:-2].partition("&&") for line in lines)
    return [Api(tool, api) for tool, separator, api in pairs if separator]
