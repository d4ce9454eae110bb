"""Writes `run.json`: what a run was told, on what it ran, and what came of it. For programs and the report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from evaluation.toolbench.inference.errors import DataError, OutputError
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.records.whole_files import write_whole
from evaluation.toolbench.json_input import JsonError, read_json

RUN_FILE = "run.json"
_SHARD_FILES = "run-*of*.json"  # of runs with --shard, which may go on beside each other

_SECRET_NAME = re.compile(
    r"(^|_)(api)?keys?$|secret|passw|credential|authorization|(auth|access|hf|bearer)_?token", re.IGNORECASE
)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
_HIDDEN = "(hidden)"
_SHORTEST_SECRET = 4  # characters; shorter values are not looked for in other texts

_JSON_TYPES: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "dict": dict, "list": list}

_Part = TypeVar("_Part")


@dataclass(frozen=True)
class GpuRecord:
    """`cuda_index` is None for a GPU that the run did not use."""

    uuid: str
    name: str
    total_bytes: int
    cuda_index: int | None = None


@dataclass(frozen=True)
class ReplicaRecord:
    """`gpus` are UUIDs, empty on the CPU; `device_map` is module -> device where layers are spread."""

    replica: int
    gpus: list[str] = field(default_factory=list)
    num_conversations: int = 1
    device_map: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Counts queries. `done_before` were done by an earlier run; `gave_up` have an answer file whose model gave up,
    `no_answer` one in which its steps or its room ran out; `left` were not run to their end."""

    queries: int = 0
    done_before: int = 0
    answered: int = 0
    gave_up: int = 0
    no_answer: int = 0
    failed: int = 0
    left: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Tokens:
    """Counts tokens over all generations; `prompt` counts what the model was shown, cached or not."""

    prompt: int = 0
    generated: int = 0
    texts: int = 0  # generations without a constraint
    cut: int = 0  # of them, those that ended at the longest length


@dataclass(frozen=True)
class ApiStatistics:
    """`by_code` counts calls by the contract's status code, as text; `not_recorded` are those that the server's cache
    has no reply to, all of code 0; `hits`, `fuzzy_hits` and `simulated` as in CacheUse; seconds are of the calls'
    waiting."""

    calls: int = 0
    errors: int = 0
    hits: int = 0
    fuzzy_hits: int = 0
    simulated: int = 0
    not_recorded: int = 0
    seconds: float = 0.0
    median_s: float = 0.0
    p95_s: float = 0.0
    max_s: float = 0.0
    by_code: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FailureRecord:
    query_id: str
    type: str
    message: str


@dataclass(frozen=True)
class RunRecord:
    """Describes a run. `status` is running, finished, interrupted or failed; times are seconds since the epoch.

    A run that was killed stays "running", with what was true a few seconds before. `tokens.prompt`, the times of API
    calls and `failures` are entered at the end. Of a run over several folders, each has a record of its own part, whose
    tokens and calls are entered at the end; the folder above has the record of all, and alone the run's rates.
    """

    run_id: str
    status: str
    started: float
    ended: float | None = None
    shard: str = ""  # such as "2of4", of a run with --shard
    configuration: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)  # keys of the configuration that have not their defaults
    versions: dict[str, str] = field(default_factory=dict)
    gpus: list[GpuRecord] = field(default_factory=list)
    layout: list[ReplicaRecord] = field(default_factory=list)
    layout_reason: str = ""
    settings: dict[str, Any] = field(default_factory=dict)  # those that decide the answers; {}: not recorded
    mixed_settings: list[str] = field(default_factory=list)  # what they were for other answers that lie here
    seeds: dict[str, int] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)  # load: until a replica was ready; run: from then on
    rates: Rates = field(default_factory=Rates)
    counts: Counts = field(default_factory=Counts)
    tokens: Tokens = field(default_factory=Tokens)
    api: ApiStatistics = field(default_factory=ApiStatistics)
    failures: list[FailureRecord] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the secrets of the configuration."""
        return without_secrets(asdict(self))

    @classmethod
    def from_json(cls, record: Any) -> RunRecord:
        """Read what `to_json` returned. Unknown keys, of a later version, are left out; DataError for anything else."""
        try:
            values = _known(cls, record)
            return cls(
                **{
                    **values,
                    "gpus": [GpuRecord(**_known(GpuRecord, gpu)) for gpu in values.get("gpus", [])],
                    "layout": [ReplicaRecord(**_known(ReplicaRecord, replica)) for replica in values.get("layout", [])],
                    "counts": Counts(**_known(Counts, values.get("counts", {}))),
                    "rates": Rates(**_known(Rates, values.get("rates", {}))),
                    "tokens": Tokens(**_known(Tokens, values.get("tokens", {}))),
                    "api": ApiStatistics(**_known(ApiStatistics, values.get("api", {}))),
                    "failures": [FailureRecord(**_known(FailureRecord, each)) for each in values.get("failures", [])],
                }
            )
        except (TypeError, AttributeError) as error:
            raise DataError(f"not the record of a run: {error}") from error


def write_run_record(folder: Path, record: RunRecord) -> Path:
    """Write `record` beside the answers, whole or not at all. OutputError where that fails."""
    path = folder / (f"run-{record.shard}.json" if record.shard else RUN_FILE)
    put_file(path, json.dumps(record.to_json(), indent=2, default=str) + "\n")
    return path


def read_run_record(folder: Path) -> RunRecord | None:
    """Read the newest record in `folder`, None without one. DataError for one that cannot be read."""
    path = max([folder / RUN_FILE, *folder.glob(_SHARD_FILES)], key=_changed_at)
    try:
        return RunRecord.from_json(read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, JsonError, DataError) as error:
        raise DataError(
            f"cannot read the run's record {path}: {error}. The report can be made without it: move it away"
        ) from error


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def put_file(path: Path, text: str) -> None:
    """Write `path` so that it is either as before or complete. OutputError where that fails."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}", path=str(path)) from error


def without_secrets(record: dict[str, Any]) -> dict[str, Any]:
    """Return `record` with keys, passwords and the like hidden: by their name in `configuration`, then wherever their
    value appears (an error message may quote it). The user part of URLs is hidden as well."""
    secrets = sorted(_secret_values(record.get("configuration", {})), key=len, reverse=True)
    return _hide(record, [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET])


def _secret_values(configuration: Mapping[str, Any]) -> set[str]:
    return {str(value) for name, value in configuration.items() if _is_secret(name, value)}


def _is_secret(name: str, value: Any) -> bool:
    """Say whether a value is a secret; a switch such as `use_rapidapi_key` is not."""
    return bool(value) and not isinstance(value, bool) and _SECRET_NAME.search(name) is not None


def _hide(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _HIDDEN)
        return _USER_IN_URL.sub(f"{_HIDDEN}@", value)
    if isinstance(value, Mapping):
        return {key: _HIDDEN if _is_secret(str(key), item) else _hide(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(item, secrets) for item in value]
    return value


def _known(kind: type[_Part], record: Any) -> dict[str, Any]:
    """Pick the entries of `record` that `kind` has a field for. TypeError for one of another type."""
    if not isinstance(record, Mapping):
        raise TypeError(f"a {type(record).__name__} where an object was expected")
    assert is_dataclass(kind)
    known = [each for each in fields(kind) if each.name in record]
    for each in known:
        _check_type(each.name, record[each.name], str(each.type))
    return {each.name: record[each.name] for each in known}


def _check_type(name: str, value: Any, annotation: str) -> None:
    """Raise TypeError unless `value` is what the annotation of a field says; that of parts is not looked at."""
    expected = _JSON_TYPES.get(annotation.partition("[")[0].partition(" |")[0], object)
    if not isinstance(value, expected) and not (value is None and annotation.endswith("| None")):
        raise TypeError(f"{name} is a {type(value).__name__} and not of the type {annotation}")
