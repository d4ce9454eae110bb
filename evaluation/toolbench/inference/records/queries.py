"""Reads and checks the queries of a run before anything slow begins."""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.json_input import JsonError, parse_json, whole_text

logger = logging.getLogger(__name__)

_SHUFFLE_SEED = 42  # fixes the order of queries, which --seed does not change
_API_KEYS = ("category_name", "tool_name", "api_name")
_UNUSABLE = "unusable_entry"  # the key under which a record says why its entry cannot be run
_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_LONGEST_ID = 200  # bytes; a file name has 255, and the method and a temporary's ending are part of it


class Task(NamedTuple):
    """Holds a query as a run passes it on: what ToolBench's `run_single_task` takes first, in its order."""

    method: str
    backbone_model: Any  # the loaded model or a name; None while it is on its way to a replica, which loads its own
    query_id: str
    data_dict: dict[str, Any]  # the query's record, with the text that is in use
    args: Any  # the parsed command line
    output_dir_path: str
    tool_des: list[list[str]] | None  # [[tool, description], ...] where the query names its tools

    @property
    def item_id(self) -> str:
        """Return what names it in a run over several files or methods, where query ids may repeat."""
        return f"{self.output_dir_path}/{self.query_id}_{self.method}"


@dataclass(frozen=True)
class Query:
    """Holds one query as the file has it; `text` may be a replacement."""

    query_id: str
    text: str
    record: Mapping[str, Any]

    @property
    def api_list(self) -> list[dict[str, Any]] | None:
        """Return the candidate APIs; None where the query does not name any."""
        return self.record.get("api_list")

    def data_dict(self) -> dict[str, Any]:
        """Return the record, with the text that is in use."""
        return {**self.record, "query": self.text}


@dataclass(frozen=True)
class Shard:
    """Names one of `count` parts of a run's queries, the first being number 1. All parts may share a folder."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard | None:
        """Read "2/4"; None of "". ConfigError for anything else."""
        if not text:
            return None
        match = _SHARD.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--shard {text!r} is not I/N with I from 1 to N, such as 2/4")
        return cls(int(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """Return what stands in the names of its files."""
        return f"{self.number}of{self.count}"

    def of(self, queries: Sequence[Query]) -> list[Query]:
        """Return every `count`th query: parts of equal length, whatever order long ones come in."""
        return list(queries[self.number - 1 :: self.count])


def read_queries(path: Path, replacements: Mapping[str, str], *, needs_api_list: bool = False) -> list[Query]:
    """Read the queries of a file, in its order.

    A query without `query_id` has its position as id. Of queries that are repeated word for word the first
    is kept. `needs_api_list` is for providers that have no other source of functions.

    An entry that cannot be run stands among the others as a query that fails (`refuse_unusable`), under its own
    id or as "entry-<position>". DataError where the file is not a list, or no entry of it can be run.
    """
    records = _read_list(path, "queries")
    queries: dict[str, Query] = {}
    errors: list[DataError] = []
    for position, record in enumerate(records):
        try:
            query = _query(path, position, record, replacements, needs_api_list)
            twin = queries.get(query.query_id)
            if twin is not None and twin.record == query.record:
                logger.warning("%s: query %s appears twice; keeping the first", path, query.query_id)
                continue
            if twin is not None:
                raise DataError(
                    f"{path}: entry {position} has the id {query.query_id} of another query, whose answer it would "
                    "overwrite: give it another query_id"
                )
        except DataError as error:
            errors.append(error)
            query = _unusable(error, position, queries)
        queries[query.query_id] = query
    if errors and len(errors) == len(queries):
        raise errors[0]
    if errors:
        logger.warning(
            "%d of %d queries cannot be run and will fail, the first: %s", len(errors), len(queries), errors[0]
        )
    return list(queries.values())


def wanted_ids(text: str, queries: Iterable[Query]) -> set[str]:
    """Return the ids in `text`, which are separated by commas. DataError for an id that no query has."""
    wanted = {name.strip() for name in text.split(",") if name.strip()}
    known = {query.query_id for query in queries}
    if missing := sorted(wanted - known):
        raise DataError(f"--query_ids: no query has the id {', '.join(missing)}; there are {len(known)} queries")
    return wanted


def chosen_queries(
    queries: Sequence[Query],
    *,
    limit: int | None = None,
    ids: Collection[str] = frozenset(),
    shard: Shard | None = None,
) -> list[Query]:
    """Return the queries with these ids, or all without any, of them the first `limit`, of those the shard's."""
    chosen = [query for query in queries if not ids or query.query_id in ids][:limit]
    return shard.of(chosen) if shard else chosen


def refuse_unusable(record: Mapping[str, Any]) -> None:
    """Raise DataError for the record of an entry that cannot be run."""
    if _UNUSABLE in record:
        raise DataError(str(record[_UNUSABLE]))


def read_replacements(path: str) -> dict[str, str]:
    """Read {query id: text} of a replacement file, `{}` without one. Ids may be strings or numbers."""
    if not path:
        return {}
    if not Path(path).is_file():
        logger.warning("no replacement file %s: the queries are used as they are", path)
        return {}
    replacements = {}
    for position, entry in enumerate(_read_list(Path(path), "replacements")):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("query"), str):
            raise DataError(f'{path}: entry {position} is not {{"id": ..., "query": "..."}}')
        replacements[str(entry["id"])] = entry["query"]
    return replacements


def in_run_order(queries: Sequence[Query], has_known_tools: Callable[[Query], bool]) -> list[Query]:
    """Put the queries in ToolGen's order: shuffled, always the same way, so that long ones are spread over a run.

    ToolGen drops queries with unknown tools before it shuffles. Here they come last: they fail, and are counted.
    """
    known: list[Query] = []
    unknown: list[Query] = []
    for query in queries:
        (known if has_known_tools(query) else unknown).append(query)
    random.Random(_SHUFFLE_SEED).shuffle(known)
    return known + unknown


def _query(path: Path, position: int, record: Any, replacements: Mapping[str, str], needs_api_list: bool) -> Query:
    if not isinstance(record, dict):
        raise DataError(f"{path}: entry {position} is a {type(record).__name__}, not a query object")
    query_id = str(position if record.get("query_id") is None else record["query_id"])
    where = f"{path}: query {query_id} (entry {position})"
    _check_id(query_id, where)
    if not isinstance(record.get("query"), str):
        raise DataError(f"{where} has no text under the key 'query'", query_id=query_id, key="query")
    api_list = record.get("api_list")
    if api_list is None and needs_api_list:
        raise DataError(
            f"{where} has no key 'api_list', from which --function_provider truth takes its functions: "
            "use --function_provider all or retriever",
            query_id=query_id,
            key="api_list",
        )
    if not isinstance(api_list, list | None):
        raise DataError(f"{where}: 'api_list' is a {type(api_list).__name__}, not a list", query_id=query_id)
    for number, api in enumerate(api_list or ()):
        for key in _API_KEYS:
            if not isinstance(api, dict) or not isinstance(api.get(key), str):
                raise DataError(f"{where}: api_list entry {number} has no '{key}'", query_id=query_id, key=key)
    return Query(query_id, replacements.get(query_id, record["query"]), record)


def _unusable(error: DataError, position: int, taken: Container[str]) -> Query:
    query_id = str(error.details.get("query_id", f"entry-{position}"))
    if query_id in taken:
        query_id = f"entry-{position}"
    while query_id in taken:
        query_id += "-"
    return Query(query_id, "", {_UNUSABLE: str(error)})


def _check_id(query_id: str, where: str) -> None:
    """Refuse an id that cannot be part of a file name."""
    is_odd = not query_id or query_id.startswith(".") or any(character in query_id for character in "/\\\0\n")
    if is_odd or whole_text(query_id) != query_id or len(os.fsencode(query_id)) > _LONGEST_ID:
        raise DataError(f"{where[:500]}: the id {query_id[:50]!r} cannot be part of a file name")
    if "_" in query_id:
        short = query_id.split("_")[0]
        logger.warning("%s: conversion by ToolEval's own program reads the id as %r, by ours whole", where, short)


def _read_list(path: Path, what: str) -> list[Any]:
    try:
        records = parse_json(path.read_bytes())  # a pipe, which a shell's <(...) is, as well
    except OSError as error:
        raise DataError(f"cannot read the {what} file {path}: {error.strerror}") from error
    except JsonError as error:
        raise DataError(f"the {what} file {path} is {error}") from error
    if not isinstance(records, list):
        raise DataError(f"the {what} file {path} holds a {type(records).__name__}, not a list")
    return records
