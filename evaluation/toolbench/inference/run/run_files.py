"""Writes what a run leaves beside its answers, `run.json` and `report.html`, from first second to last."""

from __future__ import annotations

import logging
import platform
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.event_history import joined, read_history
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.records.run_record import (
    ApiStatistics,
    Counts,
    FailureRecord,
    GpuRecord,
    ReplicaRecord,
    RunRecord,
    Tokens,
    read_run_record,
    write_run_record,
)
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
from evaluation.toolbench.inference.replicas.messages import Loaded
from evaluation.toolbench.inference.run.run_clock import RunClock
from evaluation.toolbench.inference.run.sets import RunSet, RunSets
from evaluation.toolbench.inference.run.summary import SetSummary
from evaluation.toolbench.inference.run_display.status import RunStatus
from evaluation.toolbench.inference.run_report.answer_files import read_failures
from evaluation.toolbench.inference.run_report.report import write_report
from evaluation.toolbench.inference.run_report.totals import totals_of

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "nvidia-ml-py", "httpx")


def new_run_id() -> str:
    """Return a new id: the time and a few random characters."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def files_of(
    sets: RunSets,
    run_id: str,
    layout: RunLayout,
    *,
    configuration: Mapping[str, Any],
    settings: Mapping[str, Any],
    mixed_settings: Mapping[Path, Sequence[str]],
    changed: Sequence[str],
    replaces_answers: bool,
    seed: int,
    shard: str,
    load_s: float,
) -> list[RunFiles]:
    """Begin the files of every folder that a run adds answers to; of several folders, also of the one above them.

    `mixed_settings` are those of answers that stay in a folder. Of answers that are replaced, the settings stay in the
    record until `use_settings`.
    """
    record = replace(
        first_record(run_id, configuration, layout),
        started=time.time() - load_s,
        settings=dict(settings),
        changed=list(changed),
        seeds={"seed": seed},
        shard=shard,
        timings_s={"load": round(load_s, 3)},
    )
    folders = sets.by_folder()
    is_alone = len(folders) == 1
    files = []
    for folder, inside in folders.items():
        if any(each.query_ids for each in inside):
            own = replace(_part_of(record, folder, inside), mixed_settings=list(mixed_settings.get(folder, ())))
            files.append(RunFiles(folder, inside, own, is_all=is_alone, replaces_answers=replaces_answers))
    if is_alone:
        return files
    above = next(iter(folders)).parent
    return [*files, RunFiles(above, sets.sets, record, is_all=True, replaces_answers=replaces_answers)]


def _part_of(record: RunRecord, folder: Path, sets: Sequence[RunSet]) -> RunRecord:
    """Return the record of a run that was told of these sets alone."""
    methods = [each.method for each in sets]
    method = {"method": methods[0] if len(methods) == 1 else methods}
    told = {"input_query_file": sets[0].query_file, "output_answer_file": str(folder), **method}
    return replace(record, configuration={**record.configuration, **told}, settings={**record.settings, **method})


class RunFiles:
    """Writes the files of one run beside its answers. A run never fails for them: what goes wrong is logged."""

    def __init__(
        self, folder: Path, sets: Sequence[RunSet], record: RunRecord, *, is_all: bool, replaces_answers: bool = False
    ) -> None:
        """`sets` are those whose answers lie in `folder` or in folders below it; `is_all` says that the run has no
        others, so that what the replicas have done is theirs."""
        self._folder = folder
        self._sets = sets
        self._is_all = is_all
        self._settings = record.settings
        settings = self._settings_there() if replaces_answers else record.settings
        self._record = replace(record, settings=settings, counts=self._counts())
        self._write(self._record)

    def _settings_there(self) -> dict[str, Any]:
        """Return what the record of an earlier run says of the answers that are there."""
        with suppress(ToolGenError):
            record = read_run_record(self._folder)
            return record.settings if record else {}
        return {}

    def use_settings(self) -> None:
        """Note that from here on the answers are those of the run's own settings."""
        self._record = replace(self._record, settings=self._settings)
        self._write(self._record)

    def note(self, loaded: Mapping[int, Loaded], status: RunStatus, clock: RunClock) -> None:
        """Write run.json as it is now, for a run that is killed: it then has what was noted last."""
        self._record = self._so_far(loaded, clock)
        if self._is_all:
            cache = CacheUse.total(replica.cache for replica in status.replicas)
            self._record = replace(
                self._record,
                rates=status.rates,
                tokens=Tokens(generated=sum(replica.num_tokens for replica in status.replicas)),
                api=ApiStatistics(
                    calls=sum(replica.api_calls for replica in status.replicas),
                    errors=sum(replica.api_errors for replica in status.replicas),
                    hits=cache.hits,
                    fuzzy_hits=cache.fuzzy_hits,
                    simulated=cache.simulated,
                    not_recorded=cache.misses,
                ),
            )
        self._write(self._record)

    def end(self, status: str, loaded: Mapping[int, Loaded], clock: RunClock, rates: Rates) -> None:
        """Write both files as the run leaves them; `status` as in RunRecord."""
        record = replace(self._so_far(loaded, clock), status=status, ended=time.time())
        if self._is_all:
            record = replace(record, rates=rates)
        try:
            record = self._with_events(record)
        except ToolGenError as error:
            logger.warning("run.json is without what the events tell: %s", error)
        self._write(record)
        try:
            write_report(self._folder)
        except Exception as error:  # the answers are there, and the report can be made again
            logger.warning("no report.html: %s", error)

    def _counts(self) -> Counts:
        return sum((_counts_of(each.progress.summary) for each in self._sets), Counts())

    def _so_far(self, loaded: Mapping[int, Loaded], clock: RunClock) -> RunRecord:
        """Return the record with what the parent knows by itself."""
        return replace(
            self._record,
            layout=as_loaded(self._record.layout, loaded),
            timings_s={"load": round(clock.load_s, 3), "run": round(clock.serving_s or 0.0, 3)},
            counts=self._counts(),
        )

    def _with_events(self, record: RunRecord) -> RunRecord:
        folders = dict.fromkeys(each.folder for each in self._sets)
        totals = totals_of(joined(map(read_history, folders)), record.run_id)
        return replace(
            record,
            timings_s={**record.timings_s, "generation": totals.generation_s},
            tokens=totals.tokens,
            api=totals.api,
            failures=[failure for each in self._sets for failure in self._failures(each)],
        )

    def _failures(self, each: RunSet) -> Iterator[FailureRecord]:
        above = "" if each.folder == self._folder else f"{each.folder.name}/"
        for failure in read_failures(each.folder):
            if failure.method == each.method:
                yield FailureRecord(above + failure.query_id, failure.type, failure.message)

    def _write(self, record: RunRecord) -> None:
        try:
            write_run_record(self._folder, record)
        except ToolGenError as error:
            logger.warning("%s", error)


def _counts_of(summary: SetSummary) -> Counts:
    now = summary.now
    return Counts(
        queries=summary.num_queries,
        done_before=summary.earlier.total,
        answered=now.answered,
        gave_up=now.gave_up,
        no_answer=now.no_answer,
        failed=now.failed,
        left=summary.num_left,
    )


def first_record(run_id: str, configuration: Mapping[str, Any], layout: RunLayout) -> RunRecord:
    """Record what is known of a run when it begins: its flags, the versions, the GPUs and the replicas."""
    used = {uuid: int(name.removeprefix("cuda:")) for spec in layout.replicas for uuid, name in _gpus(spec)}
    return RunRecord(
        run_id,
        "running",
        started=time.time(),
        configuration=dict(configuration),
        versions=_versions(),
        gpus=[GpuRecord(gpu.uuid, gpu.name, gpu.total_bytes, used.get(gpu.uuid)) for gpu in inspect_gpus().visible],
        layout=[ReplicaRecord(spec.number, list(spec.uuids)) for spec in layout.replicas],
        layout_reason=layout.reasons,
    )


def as_loaded(layout: Iterable[ReplicaRecord], loaded: Mapping[int, Loaded]) -> list[ReplicaRecord]:
    """Add to the replicas what those that have loaded said of themselves."""
    return [_as_loaded(record, loaded[record.replica]) if record.replica in loaded else record for record in layout]


def _as_loaded(record: ReplicaRecord, loaded: Loaded) -> ReplicaRecord:
    device_map = {str(module): place for module, place in loaded.device_map.items()}
    return replace(record, num_conversations=loaded.num_conversations, device_map=device_map)


def _gpus(spec: ReplicaSpec) -> list[tuple[str, str]]:
    return list(zip(spec.uuids, spec.gpus, strict=True))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
