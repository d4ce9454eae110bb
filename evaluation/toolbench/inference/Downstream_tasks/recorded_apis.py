"""Tells whether a response cache is for these queries: that of other data, or a folder next to it, answers none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.queries import Query
from evaluation.toolbench.virtual_api.cache import ResponseCache
from evaluation.toolbench.virtual_api.cache_names import RecordName
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.simulator.state import SimulatorState

_NEARBY = 1000  # folders that are looked into


@dataclass(frozen=True)
class RecordedApis:
    """Tells how many of the APIs that the queries name, `wanted`, have recorded replies in `folder`."""

    folder: Path
    wanted: Set[RecordName]
    recorded: int

    def refuse_none(self) -> None:
        """Raise DataError where there is not a single one; it names the folder nearby that has some."""
        if self.recorded or not self.wanted:
            return
        one, wanted = min(self.wanted, key=str).relative_path(), len(self.wanted)
        raise DataError(
            f"no reply is recorded for any of the {wanted:,} APIs that the queries name: {self.folder} has no {one}, "
            f"for one. {_advice(self.folder, self.wanted)}",
            folder=str(self.folder),
            wanted=wanted,
        )


def check_replies(client: ApiClient, queries: Iterable[Query]) -> tuple[RecordedApis | None, SimulatorState]:
    """Return what the server's cache has for `queries`, and what simulates the rest.

    DataError where nothing is recorded and nothing simulates, ApiError for a simulator that cannot be asked.
    """
    simulator = client.simulator() or SimulatorState()
    simulator.refuse_problem()
    found = recorded_apis(client, queries)
    if found is not None and not simulator.is_there:
        found.refuse_none()
    return found, simulator


def recorded_apis(client: ApiClient, queries: Iterable[Query]) -> RecordedApis | None:
    """Count what the server's cache has for `queries`.

    None where that cannot be told: a server of another kind or on another machine, or one that asks another server
    for what it lacks.
    """
    health = client.health()
    if health is None or health.get("forwards"):
        return None
    folder = Path(str(health["cache_dir"]))
    if not folder.is_dir():
        return None
    cache, wanted = ResponseCache(folder), frozenset(_apis_of(queries))
    return RecordedApis(folder, wanted, sum(cache.has(name) for name in wanted))


def _apis_of(queries: Iterable[Query]) -> Iterator[RecordName]:
    for query in queries:
        for api in query.api_list or []:
            name = RecordName.of_request(api["category_name"], api["tool_name"], api["api_name"])
            if name.relative_path() is not None:
                yield name


def _advice(folder: Path, wanted: Set[RecordName]) -> str:
    """Say where the cache seems to be: unpacked a level too high, or named a level too low, is the usual mistake."""
    for near in islice(_folders_near(folder), _NEARBY):
        cache = ResponseCache(near)
        found = sum(cache.has(name) for name in wanted)
        if found:
            return f"{near} has {found:,} of them: set API_CACHE_DIR to it"
    return "Set API_CACHE_DIR to the folder that holds <category>/<tool>_for_<category>/<api>.json"


def _folders_near(folder: Path) -> Iterator[Path]:
    yield from (folder.parent, folder.parent.parent)
    below = [folder]
    for _ in range(2):
        below = [inner for outer in below for inner in _folders_in(outer)]
        yield from below


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
