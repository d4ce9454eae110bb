"""Reads a JSON object that users hand over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.json_input import JsonError, read_json


def read_entries(path: Path, what: str) -> dict[str, Any]:
    """Read the object in `path`, whose keys are query ids; DataError, naming the file as `what`, for anything else.

    Conversations are nested by two levels a step, so they may be deeper than other data.
    """
    try:
        record = read_json(path, max_depth=None)
    except OSError as error:
        raise DataError(f"cannot read the {what} file {path}: {error.strerror}") from error
    except JsonError as error:
        raise DataError(f"the {what} file {path} is {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"the {what} file {path} holds a {type(record).__name__}, not an object with query ids as keys")
    return record
