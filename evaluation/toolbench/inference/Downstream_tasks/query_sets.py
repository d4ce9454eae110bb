"""Reads the sets of queries that a run is to answer: their files, the methods, and where the answers go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.records.queries import Query, chosen_queries, read_queries, wanted_ids

SETS = ("G1_instruction", "G1_tool", "G1_category", "G2_instruction", "G2_category", "G3_instruction")
ALL = "all"  # the six above
QUERY_FOLDER = "solvable_queries/test_instruction"  # in a folder laid out like ToolGen's data/


@dataclass(frozen=True)
class SetPlace:
    """Names a file of queries for one method, and where the answers go. `name` tells it from the run's others."""

    name: str
    query_file: str
    answer_folder: str
    method: str


@dataclass(frozen=True)
class QuerySet:
    place: SetPlace
    queries: Sequence[Query]


def set_places(config: RunConfig) -> list[SetPlace]:
    """Return the sets in their order: every file, for every method.

    Answers to one file go into `output_answer_file` itself, those to several (or to `all`) into a folder in it for each
    file, which is named like the file. ConfigError for files of one name.
    """
    given = config.query_files
    if given == (ALL,):
        given = tuple(str(Path(config.tools.data_dir, QUERY_FOLDER, f"{name}.json")) for name in SETS)
    above = config.output_answer_file
    is_one = len(given) == 1
    names = [Path(path).stem for path in given]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--input_query_file: several files are called {name}, and so would their answer folders")
    methods = config.search.methods
    return [
        SetPlace(
            name if len(methods) == 1 else f"{name} {method}", path, above if is_one else f"{above}/{name}", method
        )
        for name, path in zip(names, given, strict=True)
        for method in methods
    ]


def read_query_sets(config: RunConfig, replacements: Mapping[str, str]) -> list[QuerySet]:
    """Read the queries that `config` asks for, every file once. ConfigError, DataError."""
    places = set_places(config)
    needs_api_list = config.tools.function_provider == "truth"
    files = {
        path: read_queries(Path(path), replacements, needs_api_list=needs_api_list)
        for path in dict.fromkeys(place.query_file for place in places)
    }
    ids = wanted_ids(config.query_ids, (query for queries in files.values() for query in queries))
    return [
        QuerySet(place, chosen_queries(files[place.query_file], limit=config.limit, ids=ids, shard=config.part))
        for place in places
    ]
