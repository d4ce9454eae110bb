"""JSON and text from outside: data or one error in one line, whatever the bytes are."""

import codecs
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.json_input import (
    MAX_DEPTH,
    JsonError,
    parse_json,
    parse_object,
    read_file,
    read_json,
    read_text,
    whole_text,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(content=st.binary() | st.text())
def test_any_content_is_data_or_one_line(content):
    words = ""
    try:
        parse_json(content)
    except JsonError as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 300


@given(value=values, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_json_can_say_is_read_in_every_encoding_with_a_mark(value, encoding):
    text = json.dumps(value, ensure_ascii=True)
    assert parse_json(text) == parse_json(text.encode(encoding)) == value


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000, 10_000, 200_000])
@pytest.mark.parametrize("level", ["[{}]", '{{"a":{}}}'])
def test_nesting_that_cannot_be_walked_is_an_error(depth, level):
    opening, closing = level.format("\n").split("\n")
    with pytest.raises(JsonError, match="nested deeper than 200 levels"):
        parse_json(opening * depth + "1" + closing * depth)


def test_data_of_the_greatest_depth_can_be_copied_and_written():
    data = parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert json.loads(json.dumps(data, indent=2)) == data


@pytest.mark.parametrize("content", ["[1]", "1", '"text"', "null", "NaN"])
def test_an_object_is_an_object(content):
    with pytest.raises(JsonError, match="where an object is expected"):
        parse_object(content)


@pytest.mark.parametrize("content", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}'])
def test_numbers_that_no_curve_can_show_are_refused_on_request(content):
    parse_json(content)
    with pytest.raises(JsonError, match="not finite"):
        parse_json(content, finite=True)


def test_text_is_read_without_its_byte_order_mark(tmp_path):
    path = tmp_path / "tokens.txt"
    for content in (codecs.BOM_UTF8 + "<<é>>".encode(), "<<é>>".encode("utf-16"), "<<é>>".encode()):
        path.write_bytes(content)
        assert read_text(path) == "<<é>>"


@pytest.mark.timeout(60)
def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "device").symlink_to("/dev/zero")
    for path in (pipe, tmp_path / "device"):
        with pytest.raises(OSError, match="a pipe or a device"):
            read_json(path)
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "\ud83d"])
def test_a_name_that_no_file_can_have_is_a_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / name)


@given(text=st.text(st.characters(exclude_categories=())))
def test_whole_text_can_be_encoded_and_leaves_good_text_alone(text):
    whole = whole_text(text)
    whole.encode("utf-8")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return
    assert whole == text


def test_the_tree_of_a_long_search_is_read_on_request(tmp_path):
    """Trees of answers are nested by two levels a step."""
    path = tmp_path / "7_DFS_w2.json"
    path.write_text("[" * 600 + "]" * 600)
    assert read_json(path, max_depth=None)
    with pytest.raises(JsonError, match="nested deeper than 200 levels"):
        read_json(path)
    path.write_text("[" * 200_000)
    with pytest.raises(JsonError, match="nested deeper than can be read"):
        read_json(path, max_depth=None)
