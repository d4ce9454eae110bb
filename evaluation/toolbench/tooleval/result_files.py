"""Writes the files of a scoring: as ToolEval does, and each whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.run_record import put_file
from evaluation.toolbench.json_input import JsonError, read_json, whole_text


def write_object(path: Path, record: Mapping[str, Any], *, indent: int) -> None:
    """Write JSON that is not escaped. OutputError."""
    put_file(path, whole_text(json.dumps(record, indent=indent, ensure_ascii=False)))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with tabs, quotes where needed and CRLF, as Python's csv does. OutputError."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t")
    writer.writerow(columns)
    writer.writerows(rows)
    put_file(path, whole_text(text.getvalue()))


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table of plain cells, in which tabs and line ends become blanks. OutputError."""
    lines = ["\t".join("" if cell is None else _on_one_line(str(cell)) for cell in row) for row in (columns, *rows)]
    put_file(path, whole_text("\n".join(lines) + "\n"))


def is_ours(results: Path) -> bool:
    """Say whether these are results that this package wrote, which name their judge; not so if they cannot be read."""
    try:
        return "judge" in read_json(results)
    except (OSError, JsonError, TypeError):
        return False


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the object in a file of an earlier scoring, None where there is none. DataError for something else."""
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path}, which an earlier scoring wrote: {error}. Move it away or pass --overwrite"
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds a {type(record).__name__}, not the object of an earlier scoring: move it away")
    return record


def _on_one_line(cell: str) -> str:
    return re.sub(r"[\t\r\n]+", " ", cell)
