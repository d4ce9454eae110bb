"""Logs what came of each query as it comes: one line of JSON a query, under a line that says of what run it is.

A line is written whole by one system call, so a run that is killed leaves at most its last line torn. A later run of
the same model, flags and data goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.run_record import put_file
from evaluation.toolbench.json_input import JsonError, parse_object

_DIGITS = 5  # of a logarithm: batches of other sizes round differently further down


@dataclass(frozen=True, slots=True)
class Prediction:
    """Holds a text that the search ended with: its `score`, and the sum of its tokens' log-probabilities."""

    text: str
    score: float
    log_probability: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Holds the predictions for one query, best first: ToolGen's search for five, and the one for ten."""

    predictions: tuple[Prediction, ...]
    wider: tuple[Prediction, ...]

    @property
    def texts(self) -> list[str]:
        return [prediction.text for prediction in self.predictions]

    @property
    def wider_texts(self) -> list[str]:
        return [prediction.text for prediction in self.wider]


NOTHING = Outcome((), ())  # of a query that could not be searched for


class QueryLog:
    """Keeps the outcomes of one set, by query id as text. `fingerprint` is plain and says what they are outcomes of."""

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        self.path = path
        self._header = {"fingerprint": dict(fingerprint)}
        self._file: int | None = None

    def read(self) -> dict[str, Outcome] | None:
        """Return what an earlier run has left; None for the log of other flags, another model or other data."""
        lines = self._lines()
        if not lines:
            return {}
        if _parsed(lines[0]) != json.loads(json.dumps(self._header)):
            return None
        entries = (_parsed(line) for line in lines[1:])
        return {str(entry["query_id"]): _outcome(entry) for entry in entries if entry is not None}

    def earlier_fingerprint(self) -> Mapping[str, Any] | None:
        """Return what the outcomes that an earlier run has left are outcomes of; None where there are none."""
        lines = self._lines()
        header = _parsed(lines[0]) if any(lines[1:]) else None
        return header.get("fingerprint") if header else None

    def begin(self, *, anew: bool) -> None:
        """Open it for `add`, after what is there or, if `anew`, from the start. OutputError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if anew else 0)
        try:
            self._file = os.open(self.path, flags, 0o666)
            size = os.fstat(self._file).st_size
            if not size:
                self._append(self._header)
            elif os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")  # ends the torn line
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def add(self, query: Mapping[str, Any], outcome: Outcome) -> None:
        """Append the outcome of `query` (plain values, "query_id" among them). OutputError."""
        self._append(_entry(query, outcome))

    def finish(self, outcomes: Iterable[tuple[Mapping[str, Any], Outcome]]) -> None:
        """Put everything in its final order, whole or not at all. OutputError."""
        self.close()
        lines = [self._header, *(_entry(query, outcome) for query, outcome in outcomes)]
        put_file(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lines(self) -> list[str]:
        """Return what is there, the last line last, which is empty where the one before it is whole; [] of no file."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None  # begun
        try:
            os.write(self._file, f"{json.dumps(line)}\n".encode())
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def _entry(query: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    return {**query, "predictions": _rounded(outcome.predictions), "wider": _rounded(outcome.wider)}


def _rounded(predictions: Iterable[Prediction]) -> list[dict[str, Any]]:
    return [
        {
            "text": each.text,
            "score": round(each.score, _DIGITS),
            "log_probability": round(each.log_probability, _DIGITS),
        }
        for each in predictions
    ]


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    return Outcome(*(tuple(Prediction(**each) for each in entry[key]) for key in ("predictions", "wider")))


def _parsed(line: str) -> Any:
    """Return the line's object; None for a torn one."""
    try:
        return parse_object(line)
    except JsonError:
        return None


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}. Make room, or pass another --result_path", path=str(path)
    )
