"""Reads tab-separated files with the quoting rules that pandas applies to them."""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.inference.errors import DataError

_END = ["\x03end of file\x03", ""]  # a row of our own behind the last one: an open quote would swallow it
_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d{1,19}\s*")  # of 64 bits, as pandas has them

Id = int | str


@dataclass(frozen=True, slots=True)
class TsvRow:
    """Holds the fields of one row; `line` is the line of the file (from 1) that it ends on."""

    line: int
    fields: list[str]


def read_rows(path: Path) -> list[TsvRow]:
    """Read all rows of a UTF-8 file, empty lines left out; DataError for a file that cannot be read so.

    A field that begins with a double quote ends at the next single one; inside it, tabs, line breaks and doubled
    quotes are text. Everywhere else a quote is an ordinary character.
    """
    csv.field_size_limit(sys.maxsize)  # documents of a corpus are longer than the module's 128 KiB
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(file))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist. It belongs to ToolGen's data; --data_dir says where to look"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path} as tab-separated UTF-8: {error}") from error
    if rows.pop().fields != _END:
        raise DataError(
            f'{path}: a field begins with " and the closing quote is missing. Close it, or double it inside'
        )
    return rows


def check_width(path: Path, rows: Sequence[TsvRow], *, least: int, most: int) -> None:
    """Raise DataError naming the first row with fewer than `least` or more than `most` fields."""
    for row in rows:
        if not least <= len(row.fields) <= most:
            expected = least if len(row.fields) < least else most
            raise DataError(
                f"{path}, line {row.line}: {len(row.fields)} fields, where {expected} are expected. A text that "
                "contains a tab has to stand in double quotes",
                line=row.line,
            )


def ids_of(*columns: Sequence[str]) -> list[list[Id]]:
    """Read the ids of several columns that refer to each other: whole numbers if all of them are, else the texts.

    Numbers of more than 19 digits are texts.

    >>> ids_of(["7", "007"], ["12"]), ids_of(["7"], ["q7"])
    ([[7, 7], [12]], [['7'], ['q7']])
    """
    if all(_WHOLE_NUMBER.fullmatch(value) for column in columns for value in column):
        return [[int(value) for value in column] for column in columns]
    return [list(column) for column in columns]


def _rows(lines: Iterator[str]) -> Iterator[TsvRow]:
    reader = csv.reader(itertools.chain(lines, ["\t".join(_END)]), delimiter="\t", quotechar='"', doublequote=True)
    for fields in reader:
        if fields and (len(fields) > 1 or not fields[0] or fields[0].strip(" ")):  # [""] was quoted, [] is empty
            yield TsvRow(reader.line_num, fields)
