"""Logs what came of each query as it comes: one line of JSON a query, under a line that says of what run it is.

A run that is killed leaves at most its last line torn. A later run of the same model, flags and data goes on from
there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.json_lines import JsonLines
from evaluation.toolbench.inference.records.run_record import put_file
from evaluation.toolbench.json_input import JsonError, parse_object, read_file

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
        self._file: JsonLines | None = None

    def read(self) -> dict[str, Outcome] | None:
        """Return what an earlier run has left; None for the log of other flags, another model or other data."""
        lines = self._lines()
        if not lines:
            return {}
        if _parsed(lines[0]) != json.loads(json.dumps(self._header)):
            return None
        outcomes: dict[str, Outcome] = {}
        for entry in filter(None, map(_parsed, lines[1:])):
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a line of something else
                outcomes[str(entry["query_id"])] = _outcome(entry)
        return outcomes

    def earlier_fingerprint(self) -> Mapping[str, Any] | None:
        """Return what the outcomes that an earlier run has left are outcomes of; None where there are none."""
        lines = self._lines()
        header = _parsed(lines[0]) if any(lines[1:]) else None
        fingerprint = header.get("fingerprint") if header else None
        return fingerprint if isinstance(fingerprint, dict) else None

    def begin(self, *, anew: bool) -> None:
        """Open it for `add`, after what is there or, if `anew`, from the start. OutputError."""
        if anew or not self._lines():
            put_file(self.path, f"{json.dumps(self._header)}\n")
        try:
            self._file = JsonLines(self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def add(self, query: Mapping[str, Any], outcome: Outcome) -> None:
        """Append the outcome of `query` (plain values, "query_id" among them). OutputError."""
        assert self._file is not None  # begun
        try:
            self._file.append(_entry(query, outcome))
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def finish(self, outcomes: Iterable[tuple[Mapping[str, Any], Outcome]]) -> None:
        """Put everything in its final order, whole or not at all. OutputError."""
        self.close()
        lines = [self._header, *(_entry(query, outcome) for query, outcome in outcomes)]
        put_file(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lines(self) -> list[str]:
        """Return what is there, the last line last, which is empty where the one before it is whole; [] of nothing."""
        try:
            text = read_file(self.path).decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        return text.split("\n") if text else []


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
    return Outcome(*(tuple(map(_prediction, entry[key])) for key in ("predictions", "wider")))


def _prediction(entry: Mapping[str, Any]) -> Prediction:
    if not isinstance(entry["text"], str):
        raise TypeError("a text is expected")
    return Prediction(entry["text"], float(entry["score"]), float(entry["log_probability"]))


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
