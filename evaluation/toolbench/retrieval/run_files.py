"""Writes the files of a whole run, beside those of its sets: its record and its report."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.records.answers import output_errors
from evaluation.toolbench.inference.records.run_record import RunRecord, put_file
from evaluation.toolbench.retrieval.options import EvaluationConfig
from evaluation.toolbench.retrieval.report import report_page
from evaluation.toolbench.retrieval.results import SetResult, model_name, summary_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFiles:
    """Names files that begin with ToolGen's `--result_path`, which need not end at a folder."""

    folder: Path
    stem: str

    @classmethod
    def of(cls, config: EvaluationConfig) -> RunFiles:
        name = f"{model_name(config.model_path)}_{config.indexing}"
        return cls(Path(os.path.dirname(config.result_path) or "."), os.path.basename(config.result_path) + name)

    @property
    def record(self) -> Path:
        return self.folder / f"{self.stem}.run.json"

    @property
    def report(self) -> Path:
        return self.folder / f"{self.stem}.report.html"

    def make_folder(self) -> None:
        """Make the folder. OutputError where it cannot be made."""
        with output_errors(self.folder, "--result_path"):
            self.folder.mkdir(parents=True, exist_ok=True)

    def write_record(self, record: RunRecord, results: Sequence[SetResult]) -> None:
        """Say what was run and what came of it. A run never fails for this file: what goes wrong is logged."""
        content = {**record.to_json(), "sets": [summary_of(result) for result in results]}
        self._put(self.record, json.dumps(content, indent=2, default=str) + "\n")

    def write_report(
        self, described: Mapping[str, Any], record: RunRecord | None, results: Sequence[SetResult]
    ) -> None:
        """Show the results as a page. A run never fails for it either."""
        self._put(self.report, report_page(self.stem, described, record, results))

    def _put(self, path: Path, text: str) -> None:
        try:
            put_file(path, text)
        except ToolGenError as error:
            logger.warning("%s", error)
