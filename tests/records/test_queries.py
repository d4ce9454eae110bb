"""Query files: what is read, and what is refused with the query and the key named."""

import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.records.queries import (
    Query,
    Shard,
    chosen_queries,
    in_run_order,
    read_queries,
    read_replacements,
    refuse_unusable,
)

API = {"category_name": "Weather", "tool_name": "Sky Watch", "api_name": "Daily Forecast"}


def write(tmp_path, content):
    path = tmp_path / "queries.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(tmp_path, content, replacements=None, **options):
    return read_queries(write(tmp_path, content), replacements or {}, **options)


def test_a_query_without_an_id_has_its_position(tmp_path):
    records = [{"query": "a", "query_id": 1073, "api_list": [API]}, {"query": "b"}, {"query": "c", "query_id": None}]
    queries = read(tmp_path, records)
    assert [query.query_id for query in queries] == ["1073", "1", "2"]
    assert (queries[0].api_list, queries[1].api_list) == ([API], None)


def test_an_id_that_conversion_elsewhere_would_cut_is_said(tmp_path, caplog):
    [query] = read(tmp_path, [{"query": "a", "query_id": "held_out_7"}])
    assert query.query_id == "held_out_7"
    assert "conversion by ToolEval's own program reads the id as 'held', by ours whole" in caplog.text


def test_a_replacement_takes_the_place_of_the_text(tmp_path):
    replacements = write(tmp_path, [{"id": "1073", "query": "other"}, {"id": 1, "query": "number"}])
    texts = read_replacements(str(replacements))
    assert texts == {"1073": "other", "1": "number"}
    [query] = read(tmp_path, [{"query": "a", "query_id": 1073, "x": 1}], texts)
    assert query.data_dict() == {"query": "other", "query_id": 1073, "x": 1}
    assert read_replacements("") == {}
    assert read_replacements(str(tmp_path / "absent.json")) == {}


@pytest.mark.parametrize(("number", "order"), [(3, "102"), (5, "31240"), (10, "7328569401")])
def test_the_order_of_a_run_is_toolgens(tmp_path, number, order):
    queries = read(tmp_path, [{"query": "q"} for _ in range(number)])
    assert "".join(query.query_id for query in in_run_order(queries, lambda query: True)) == order


def test_queries_that_toolgen_drops_change_no_order_and_come_last(tmp_path):
    """It drops them before it shuffles; here they are run, to fail and be counted."""
    queries = read(tmp_path, [{"query": "q", "query_id": query_id} for query_id in "x0123y4"])
    ordered = in_run_order(queries, lambda query: query.query_id.isdigit())
    assert "".join(query.query_id for query in ordered) == "31240" + "xy"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{not json", ["not JSON"]),
        ({"query": "a"}, ["not a list"]),
        (["text"], ["entry 0"]),
        ([{"query_id": 5}], ["query 5", "'query'"]),
        ([{"query_id": 5, "query": "a", "api_list": [{**API, "tool_name": None}]}], ["query 5", "'tool_name'"]),
        ([{"query_id": 5, "query": "a", "api_list": {}}], ["query 5", "'api_list'"]),
        ([{"query_id": "../5", "query": "a"}], ["../5", "file name"]),
        ([{"query_id": "\ud83d", "query": "a"}], ["entry 0", "file name"]),
        ([{"query_id": "x" * 300, "query": "a"}], ["entry 0", "file name"]),
    ],
)
def test_bad_queries_are_named(tmp_path, content, named):
    with pytest.raises(DataError) as error:
        read(tmp_path, content)
    assert all(word in str(error.value) for word in named), error.value
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json"):
        read_queries(tmp_path / "absent.json", {})


def test_a_query_without_apis_is_refused_only_where_they_are_needed(tmp_path):
    records = [{"query_id": 5, "query": "a"}]
    assert read(tmp_path, records)[0].api_list is None
    with pytest.raises(DataError, match=r"query 5.*'api_list'"):
        read(tmp_path, records, needs_api_list=True)


def test_a_query_repeated_word_for_word_is_run_once(tmp_path):
    assert len(read(tmp_path, [{"query_id": 5, "query": "a"}] * 2)) == 1


def test_a_bad_entry_fails_alone(tmp_path, caplog):
    good = [{"query_id": 1, "query": "a"}, {"query_id": 2, "query": "b"}]
    bad = ["text", {"query_id": 7}, {"query_id": 1, "query": "another"}, {"query_id": "../x", "query": "c"}, None]
    queries = read(tmp_path, [*good, *bad])
    assert [query.query_id for query in queries] == ["1", "2", "entry-2", "7", "entry-4", "entry-5", "entry-6"]
    for query in queries[:2]:
        refuse_unusable(query.data_dict())
    for query, words in zip(queries[2:], ["entry 2", "query 7", "the id 1", r"\.\./x", "entry 6"], strict=True):
        with pytest.raises(DataError, match=words):
            refuse_unusable(query.data_dict())
    assert "5 of 7 queries cannot be run" in caplog.text


def test_ids_of_bad_entries_take_nobodys_place(tmp_path):
    queries = read(tmp_path, [{"query_id": "entry-1", "query": "a"}, 5])
    assert [query.query_id for query in queries] == ["entry-1", "entry-1-"]


def test_files_with_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "queries.json"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text('[{"query": "é"}]', encoding=encoding)
        assert read_queries(path, {})[0].text == "é"


@pytest.mark.timeout(60)
def test_queries_may_come_through_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('[{"query": "a"}]',))
    writer.start()
    assert read_queries(pipe, {})[0].text == "a"
    writer.join()


@given(num_queries=st.integers(1, 40), count=st.integers(1, 12))
def test_shards_are_all_queries_once_and_of_equal_length(num_queries, count):
    queries = [Query(str(number), "?", {}) for number in range(num_queries)]
    parts = [chosen_queries(queries, shard=Shard.parse(f"{number}/{count}")) for number in range(1, count + 1)]
    assert sorted(int(query.query_id) for part in parts for query in part) == list(range(num_queries))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "1/2/3", "a/b", "-1/4", "１/２"])
def test_a_shard_that_is_none_is_one_line(text):
    with pytest.raises(ConfigError, match=r"--shard .* is not I/N with I from 1 to N"):
        Shard.parse(text)


def test_no_shard_means_all_queries():
    assert Shard.parse("") is None
