"""Runs an evaluation from its flags to its files."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from evaluation.toolbench.inference.command_line import say
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.number_formats import FORMATS, NumberFormats
from evaluation.toolbench.inference.records.lock import RunLock
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.records.run_record import Counts, FailureRecord, RunRecord
from evaluation.toolbench.inference.run.run_files import as_loaded, first_record, new_run_id
from evaluation.toolbench.retrieval.job import WIDER, WIDTH, RetrievalJob
from evaluation.toolbench.retrieval.model import dtype_name, fingerprint_of
from evaluation.toolbench.retrieval.options import EvaluationConfig
from evaluation.toolbench.retrieval.over_replicas import Found, Searches
from evaluation.toolbench.retrieval.preparation import Preparation, prepare
from evaluation.toolbench.retrieval.progress import SetProgress
from evaluation.toolbench.retrieval.queries import Query
from evaluation.toolbench.retrieval.results import SetFiles, SetResult
from evaluation.toolbench.retrieval.run_files import RunFiles
from evaluation.toolbench.retrieval.table import notes, table

logger = logging.getLogger(__name__)


def run(config: EvaluationConfig) -> int:
    """Evaluate what `config` asks for; return the exit code. ToolGenError for what ends it."""
    if config.left_out:
        logger.warning("not given, so as in ToolGen's own script: %s", ", ".join(config.left_out))
    prepared = prepare(config)
    files = RunFiles.of(config)
    files.make_folder()
    with RunLock(files.folder, f".{files.stem}.lock", "--result_path"):
        return Evaluation(config, prepared, files).run()


class Evaluation:
    """Takes the sets of one command from what an earlier run left of them to their results."""

    def __init__(self, config: EvaluationConfig, prepared: Preparation, files: RunFiles) -> None:
        self._config = config
        self._prepared = prepared
        self._files = files
        self._model = config.model_path
        self._described = described = _described(config, prepared)
        files_of = partial(SetFiles.of, config.result_path, self._model, config.indexing, config.template)
        self._sets = [SetProgress(each, files_of(each), described) for each in prepared.sets]
        self._owner: dict[str, tuple[int, Query]] = {}  # of each item: the number of its set, and its query
        self._results: dict[int, SetResult] = {}  # by the number of the set
        self._failures: list[FailureRecord] = []
        self._record: RunRecord | None = None  # of this run; None where nothing was left

    def run(self) -> int:
        """Search for what is left, write the files of each set once it is complete, print the table. ConfigError."""
        if not self._config.overwrite:
            self._keep_to_formats()
        for number, each in enumerate(self._sets):
            each.take_up(anew=self._config.overwrite)
            self._owner |= {f"{number}/{query.query_id}": (number, query) for query in each.left()}
            self._finish_if_complete(number)
        num_earlier = sum(each.num_done for each in self._sets)
        signal_code = None
        try:
            if self._owner:
                signal_code = self._search(num_earlier)
            else:
                logger.warning("nothing left to search for: all %d outcomes are in %s", num_earlier, self._files.folder)
        finally:
            for each in self._sets:
                each.close()
        return self._conclude() if signal_code is None else signal_code

    def _keep_to_formats(self) -> None:
        """Raise ConfigError where outcomes were asked for in other number formats: they are not thrown away."""
        for each in self._sets:
            found = each.other_formats()
            if found:
                raise ConfigError(
                    f"the outcomes in {each.files.query_log} were made with other settings ({'; '.join(found)}): pass "
                    "another --result_path (RESULT_PATH), or --overwrite to replace them",
                    differences=found,
                )

    def _search(self, num_earlier: int) -> int | None:
        """Run what is left over the replicas; return 128 + signal when a signal ended it."""
        longest = self._prepared.needs.max_length
        run = self._config.run
        run = replace(run, model=replace(run.model, max_sequence_length=longest))
        sets = self._prepared.sets
        items = {item: self._prepared.item(sets[number], query) for item, (number, query) in self._owner.items()}
        job = RetrievalJob(run, self._prepared.rules, items, self._prepared.tries, self._prepared.needs)
        searches = Searches(run, job, self._note, self._note_failure)
        record = first_record(new_run_id(), self._config.flags, searches.layout)
        self._files.write_record(record, [])
        status = "failed"
        try:
            searches.run()
            status = "finished" if len(self._results) == len(self._sets) else "interrupted"
        finally:
            num_done = sum(each.num_done for each in self._sets)
            record = replace(
                record,
                status=status,
                ended=time.time(),
                layout=as_loaded(record.layout, searches.loaded),
                timings_s={
                    "load": round(searches.clock.load_s, 3),
                    "run": round(searches.clock.serving_s or 0.0, 3),
                },
                rates=searches.status().rates,
                counts=Counts(
                    queries=sum(len(each.each.queries) for each in self._sets),
                    done_before=num_earlier,
                    answered=num_done - num_earlier,
                    failed=len(self._failures),
                    left=len(items) - (num_done - num_earlier) - len(self._failures),
                ),
                failures=self._failures,
            )
            self._record = record
            self._files.write_record(record, self._ordered())
        return searches.exit_code

    def _note(self, item_id: str, found: Found) -> None:
        number, query = self._owner[item_id]
        self._sets[number].note(query, self._prepared.outcome(found))
        self._finish_if_complete(number)

    def _note_failure(self, item_id: str, problem: Problem) -> None:
        number, query = self._owner[item_id]
        each = self._sets[number]
        words = " ".join(problem.message.split())[:500]
        logger.warning("%s: query %s failed: %s: %s", each.each.name, query.query_id, problem.type, words)
        self._failures.append(FailureRecord(f"{each.each.name} {query.query_id}", problem.type, problem.message))
        each.note_failure(query)
        self._finish_if_complete(number)

    def _finish_if_complete(self, number: int) -> None:
        """Write the files of a set that has nothing left, and print what ToolGen prints of it."""
        each = self._sets[number]
        if not each.is_complete:
            return
        result = self._results[number] = each.finish(self._model)
        title = [f"== {each.each.name}"] if len(self._sets) > 1 else []
        say("\n".join([*title, *_upstream_lines(result)]), sys.stdout)

    def _formats(self) -> NumberFormats:
        return NumberFormats(self._described["dtype"], *(self._described.get(name, AUTO) for name in FORMATS))

    def _ordered(self) -> list[SetResult]:
        return [self._results[number] for number in sorted(self._results)]

    def _conclude(self) -> int:
        """Print the table; return 0, or 1 where queries failed or are left because no replica was."""
        results = self._ordered()
        if results:
            if self._record is not None or not self._files.report.exists():
                self._files.write_report(self._described, self._record, results)
            lines = ["", *table(results), "", *notes(results, self._formats()), f"Report: {self._files.report}"]
            say("\n".join(lines), sys.stdout)
        num_left = len(self._sets) - len(results)
        if num_left:
            logger.warning("%d of %d sets are not complete: the same command goes on", num_left, len(self._sets))
        return int(num_left > 0 or bool(self._failures))


def _described(config: EvaluationConfig, prepared: Preparation) -> dict[str, Any]:
    """Return what decides the outcomes, beside the data: for resuming, and for whoever reads the files."""
    model = config.run.model
    return {
        "model": config.model_path,
        "model_files": fingerprint_of(config.model_path),
        "indexing": config.indexing,
        "template": config.template,
        "dtype": "the server's" if model.engine == "server" else dtype_name(model.dtype),
        **{name: getattr(model, name) for name in FORMATS if getattr(model, name) != AUTO},
        "widths": [WIDTH, WIDER],
        "rules": asdict(prepared.rules),
    }


def _upstream_lines(result: SetResult) -> list[str]:
    """Return what ToolGen's own script prints of a set, its progress bar aside."""
    each = result.each
    lines = [f"Space dimension: {len(each.candidates)}" if each.is_constrained else "Unconstrained beam search."]
    lines += [f"Unexisted tool name: {name}" for query in each.queries for name in query.without_text]
    return [*lines, *(str(value) for value in result.upstream.values())]
