"""Reads what judges said of answers, as scoring leaves it: `<set>_<model>_verdicts.jsonl` and `<set>_<model>.json`.

The JSON has the status of every answer in every repeat, decided by rule or by a judge; ToolEval's own has the same
form. The log has each reply with its reason, also of a scoring that has not come to its end.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.records.json_lines import read_json_lines
from evaluation.toolbench.inference.records.statuses import SCORES, majority, parse_statuses
from evaluation.toolbench.json_input import JsonError, read_json

_LOG = "_verdicts.jsonl"
_RESULTS = "_results.json"


@dataclass(frozen=True)
class Remark:
    """Holds one reply of a judge. `verdict` is None where it had none of the allowed words."""

    repeat: int
    check: str
    verdict: str | None
    reason: str
    model: str


@dataclass
class Judgement:
    """Holds what was said of one answer: a status for each repeat that has one, and the judge's own words."""

    statuses: dict[int, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    @property
    def status(self) -> str | None:
        """Return the most frequent status, Unsure for a tie, None without any."""
        return majority(self.statuses.values())

    def score(self, num_repeats: int) -> float:
        """Return the mean of the repeats, from 0 to 1; one without a status counts 0."""
        return sum(SCORES[status] for status in self.statuses.values()) / num_repeats


@dataclass(frozen=True)
class Judgements:
    """Holds all that was said of one run's answers to one set, by query id."""

    by_query: Mapping[str, Judgement]

    @cached_property
    def num_repeats(self) -> int:
        """Return the most repeats that an answer was judged in."""
        return 1 + max((repeat for each in self.by_query.values() for repeat in each.statuses), default=0)

    @property
    def models(self) -> list[str]:
        """Return the judges' names."""
        return sorted({each.model for query in self.by_query.values() for each in query.remarks if each.model})


def find_judgements(places: Sequence[Path], test_set: str, models: Sequence[str]) -> Judgements | None:
    """Read the scores of `test_set` in the first place that has some of one of the `models`; None where none has.

    DataError for a file that is there and cannot be read.
    """
    for place in places:
        for model in models:
            for log, statuses in _pairs(place, f"{test_set}_{model}"):
                found = read_judgements(log, statuses)
                if found.by_query:
                    return found
    return None


def read_judgements(log: Path, statuses: Path) -> Judgements:
    """Read both files, of which either may be absent. DataError."""
    by_query: dict[str, Judgement] = {}
    for query_id, of_query in _statuses_in(statuses):
        by_query[query_id] = Judgement(of_query)
    decided = set(by_query)
    judged: dict[str, str] = {}  # the digest of the answer, by query id
    for record in _lines_of(log):
        try:
            query_id, repeat = str(record["query_id"]), int(record["repeat"])
            verdict = record["verdict"]
            is_status = verdict is None or verdict in SCORES
            said = [str(record.get(key) or "") for key in ("check", "reason", "model")]
        except (KeyError, TypeError, ValueError, OverflowError):  # a line of something else
            continue
        if record.get("answer") or not is_status:  # of a comparison of two models
            continue
        judgement = by_query.setdefault(query_id, Judgement())
        digest = str(record.get("answer_sha256") or "")
        if digest and judged.setdefault(query_id, digest) != digest:  # what came before is of an answer it had before
            judged[query_id] = digest
            judgement.remarks.clear()
            if query_id not in decided:
                judgement.statuses.clear()
        judgement.remarks.append(Remark(repeat, said[0], verdict, said[1], said[2]))
        if verdict is not None and query_id not in decided:
            judgement.statuses[repeat] = verdict  # a later check is asked where an earlier one was unsure
    return Judgements(by_query)


def only_judgements(place: Path, test_set: str) -> Judgements | None:
    """Read the scores of `test_set` in a folder that is one run's, whatever the model is called there.

    None without any. ConfigError where there are those of several models, DataError.
    """
    stems = {
        path.name.removesuffix(_LOG).removesuffix(".json")
        for path in place.glob(f"{glob.escape(test_set)}_*")
        if path.name.endswith((_LOG, ".json")) and not path.name.endswith(_RESULTS)
    }
    if len(stems) > 1:
        raise ConfigError(
            f"{place} has scores of several models for {test_set} ({', '.join(sorted(stems))}): give each run a folder "
            "with its own"
        )
    return next((read_judgements(place / f"{stem}{_LOG}", place / f"{stem}.json") for stem in stems), None)


def _pairs(place: Path, stem: str) -> Iterator[tuple[Path, Path]]:
    """Yield the log and the JSON of this stem in `place` or in a folder of it."""
    for folder in (place, *sorted(path for path in place.iterdir() if path.is_dir())) if place.is_dir() else ():
        log, statuses = folder / f"{stem}{_LOG}", folder / f"{stem}.json"
        if log.is_file() or statuses.is_file():
            yield log, statuses


def _statuses_in(path: Path) -> Iterator[tuple[str, dict[int, str]]]:
    try:
        record = read_json(path)
    except FileNotFoundError:
        return
    except (OSError, JsonError) as error:
        raise DataError(f"cannot read the pass rates in {path}: {error}. Score again, or move the file away") from error
    for query_id, entry in record.items() if isinstance(record, dict) else ():
        is_solved = entry.get("is_solved") if isinstance(entry, dict) else None
        if isinstance(is_solved, dict):
            yield query_id, parse_statuses(is_solved)


def _lines_of(path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from read_json_lines(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"cannot read the verdicts in {path}: {error.strerror or error}") from error
