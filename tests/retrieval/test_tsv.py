"""Tab-separated files as pandas reads them: quotes, line breaks, ids."""

import pytest

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.retrieval.tsv import check_width, ids_of, read_rows


def rows_of(tmp_path, text):
    path = tmp_path / "x.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [row.fields for row in read_rows(path)]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('7\tsay "hi"', ["7", 'say "hi"']),
        ('7\t"a\tb ""c"""', ["7", 'a\tb "c"']),
        ('7\t"say" hi', ["7", "say hi"]),
        ('7\t"two\nlines"', ["7", "two\nlines"]),
        ('7\t"two\r\nlines"', ["7", "two\r\nlines"]),
        ("7\t  blanks  ", ["7", "  blanks  "]),
        ('""', [""]),
        ("\ufeff7\tx", ["7", "x"]),
    ],
)
def test_quotes_are_read_as_pandas_reads_them(tmp_path, text, fields):
    assert rows_of(tmp_path, text) == [fields]


def test_empty_lines_are_skipped_and_lines_end_as_they_like(tmp_path):
    assert rows_of(tmp_path, "1\ta\r\n\n   \n2\tb\r3\tc") == [["1", "a"], ["2", "b"], ["3", "c"]]


@pytest.mark.parametrize("text", ['1\t"open', '"', '1\ta\n2\t"b\n3\tc\n', '""\n "x\n"'])
def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path, text):
    with pytest.raises(DataError, match="closing quote"):
        rows_of(tmp_path, text)


@pytest.mark.parametrize("text", [b"1\t\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text):
    with pytest.raises(DataError, match=r"x\.tsv"):
        rows_of(tmp_path, text) if text else read_rows(tmp_path / "x.tsv")


def test_a_row_of_another_width_is_named_with_its_line(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('1\ta\n2\t"b\nb"\n3\tc\td\n')
    with pytest.raises(DataError, match="line 4: 3 fields"):
        check_width(path, read_rows(path), least=1, most=2)


def test_ids_are_numbers_where_all_that_refer_to_each_other_are():
    assert ids_of(["7", "007", " 8"], ["12"]) == [[7, 7, 8], [12]]
    assert ids_of(["7", "x"], ["7"]) == [["7", "x"], ["7"]]
    assert ids_of(["7", "9" * 5000], ["7"]) == [["7", "9" * 5000], ["7"]], "which Python converts to no number"
