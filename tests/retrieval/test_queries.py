"""Queries and labels as ToolGen reads them, and what is wrong with them said by name."""

import json

import pytest

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.retrieval.evaluation_sets import load_sets
from evaluation.toolbench.retrieval.index import load_corpus, load_index
from evaluation.toolbench.retrieval.options import Choice
from evaluation.toolbench.retrieval.queries import load_queries
from evaluation.toolbench.retrieval.toolret import load_toolret_queries
from tests.helpers.retriever import example_world

WATCH, STORM, CAFE = "<<Sky Watch&&Daily Forecast>>", "<<Sky Watch&&Storm Alarm>>", "<<Cafe Finder&&Find Cafe>>"
BRIDGE, TIDE = "<<7 Bridges&&class>>", "<<Tide Clock&&/tides/{port}>>"


@pytest.fixture
def data(tmp_path):
    return example_world(tmp_path) / "data"


def queries_of(data):
    stage = data / "retrieval/G1"
    return load_queries(data, "G1", "instruction", load_corpus(stage / "corpus.tsv"), load_index(data, "Atomic"))


def write(data, name, text):
    (data / "retrieval/G1" / name).write_text(text, encoding="utf-8")


def choice(data, **changes):
    return Choice(**{"data_dir": data, "indexing": "Atomic", "stages": ["G1"], "splits": ["instruction"]} | changes)


def test_the_examples_queries_have_their_first_place_their_last_text_and_upstreams_order_of_labels(data):
    queries = queries_of(data)
    assert [query.query_id for query in queries] == [12, 7, 30, 4]
    assert [query.text for query in queries] == [
        "Any forecast and any lost text?",
        'Will it rain in "Porto" tomorrow?',
        'Tell me of storms,\tand of "tides" too.',
        "Where is coffee near the old bridge?",
    ]
    assert [query.labels for query in queries] == [(WATCH, WATCH), (WATCH, BRIDGE), (STORM, TIDE), (CAFE, BRIDGE)]
    assert queries[0].without_text == ("no_text_for_lost_tool",)
    assert not any(query.problem for query in queries)


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "123"])
def test_query_text_is_text_whatever_pandas_would_take_it_for(data, text):
    write(data, "test_G1_instruction.query.txt", f"7\t{text}\n")
    [query] = queries_of(data)
    assert (query.text, query.problem) == (text, "")


@pytest.mark.parametrize("row", ["7", "7\t", '7\t"  "'])
def test_an_empty_query_is_kept_and_says_why_it_cannot_be_searched_for(data, row):
    write(data, "test_G1_instruction.query.txt", f"{row}\n4\tcoffee?\n")
    empty, other = queries_of(data)
    assert (empty.query_id, empty.problem) == (7, "the query is empty")
    assert not other.problem


def test_a_label_without_a_document_is_named_and_the_others_stay(data):
    write(data, "qrels.test_G1_instruction.tsv", "7\t0\t1\t1\n7\t0\t99\t1\n")
    queries = {query.query_id: query for query in queries_of(data)}
    assert (queries[7].labels, queries[7].unknown) == ((WATCH,), (99,))
    assert queries[4].labels == ()


def test_labels_by_docids_that_are_texts_have_the_order_of_their_rows(data):
    path = data / "retrieval/G1/corpus.tsv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *(f"d{row}" for row in rows)]) + "\n", encoding="utf-8")
    docids = ["d5", "d1", "d4", "d2", "d3"]
    write(data, "qrels.test_G1_instruction.tsv", "".join(f"7\t0\t{docid}\t1\n" for docid in [*docids, *docids[:2]]))
    [query] = [query for query in queries_of(data) if query.docids]
    assert list(query.docids) == docids


def test_ids_that_are_numbers_in_one_file_alone_are_found_as_texts(data):
    write(data, "qrels.test_G1_instruction.tsv", "7\t0\t1\t1\nq8\t0\t1\t1\n")
    assert {query.query_id: query.labels for query in queries_of(data)}["7"] == (WATCH,)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("test_G1_instruction.query.txt", "", "is empty"),
        ("qrels.test_G1_instruction.tsv", "", "is empty"),
        ("qrels.test_G1_instruction.tsv", "99\t0\t1\t1\n", "of one split"),
        ("qrels.test_G1_instruction.tsv", "7\t0\n", "line 1: 2 fields"),
        ("corpus.tsv", "", "is empty"),
        ("corpus.tsv", "id\ttext\n1\t{}\n", "no column docid and none document_content"),
        ("corpus.tsv", "docid\tdocument_content\n1\tforecast\n", r"line 2 \(docid 1\): document_content is not JSON"),
        ("corpus.tsv", "docid\tdocument_content\n1\t[]\n", "a JSON list where an object"),
        ("corpus.tsv", 'docid\tdocument_content\n1\t{"tool_name": null}\n', "tool_name is None"),
        ("corpus.tsv", "docid\tdocument_content\n1\n", "line 2: 1 fields under 2"),
    ],
)
def test_files_that_cannot_be_evaluated_are_one_line(data, name, text, words):
    write(data, name, text)
    with pytest.raises(DataError, match=words) as error:
        load_sets(choice(data, constrained=[True]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "not an object"),
        ("{}", "not an object"),
        ("{", "not JSON"),
        ('{"a": ""}', "not a text to generate"),
        ('{"a": 1}', "not a text to generate"),
        ('{"a": "half \\ud83d"}', "not a text to generate"),
    ],
)
def test_an_index_that_cannot_be_used_is_one_line(data, content, words):
    (data / "toolenv/Tool2AtomicId.json").write_text(content)
    with pytest.raises(DataError, match=words):
        load_index(data, "Atomic")


def test_the_space_is_all_tools_or_those_of_the_stage(data):
    [everything] = load_sets(choice(data, constrained=[True]))
    [limited] = load_sets(choice(data, constrained=[True], limited=True))
    assert set(everything.candidates) - set(limited.candidates) == {"<<Far Archive&&Old Prices>>"}
    assert len(everything.candidates) == 6


def test_two_tools_with_one_text_are_refused_where_all_are_searched_and_are_one_in_a_stage(data):
    path = data / "toolenv/Tool2AtomicId.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"storm_alarm_for_sky_watch": WATCH}))
    with pytest.raises(DataError, match="'daily_forecast_for_sky_watch' and 'storm_alarm_for_sky_watch' have the same"):
        load_sets(choice(data, constrained=[True]))
    [limited] = load_sets(choice(data, constrained=[True], limited=True))
    assert limited.candidates.count(WATCH) == 1
    assert len(limited.candidates) == 4


def test_texts_that_several_tools_share_are_known(data):
    with (data / "virtual_tokens.txt").open("a", encoding="utf-8") as file:
        file.write("<<Sky-Watch&&Storm Alarm>>\n")
    [each] = load_sets(choice(data, constrained=[True]))
    assert each.ambiguous == {STORM}


def test_stages_and_splits_make_a_grid_and_what_a_stage_lacks_is_said(data, caplog):
    for kind in ("query.txt", "tsv"):
        name = f"test_G1_tool.{kind}" if kind == "query.txt" else f"qrels.test_G1_tool.{kind}"
        write(data, name, "7\train?\n" if kind == "query.txt" else "7\t0\t1\t1\n")
    for stage in ("G2", "G3"):
        folder = data / "retrieval" / stage
        folder.mkdir()
        for path in (data / "retrieval/G1").iterdir():
            if stage == "G2" or "_tool" not in path.name:
                (folder / path.name.replace("G1", stage)).write_bytes(path.read_bytes())
    grid = choice(data, stages=["G1", "G2", "G3"], splits=["instruction", "tool"], constrained=[True, False])
    names = [f"{each.stage} {each.split} {each.is_constrained}" for each in load_sets(grid)]
    assert len(names) == 10
    assert names[:2] == ["G1 instruction True", "G1 instruction False"]
    assert "G3 has no split tool" in caplog.text
    for wrong in ({"stages": ["G1", "G4"]}, {"splits": ["instruction", "instructon"]}):
        with pytest.raises(DataError, match=r"no queries for stage .*does not exist"):
            load_sets(choice(data, constrained=[True], **wrong))


TOOLRET = [
    {"id": "q1", "query": "rain?", "labels": [{"id": "1", "relevance": 1}, {"id": "2", "relevance": 0}]},
    {"id": "q2", "query": "coffee?", "labels": json.dumps([{"id": "find_caf_for_caf_finder"}, {"id": TIDE}])},
    {"id": "q3", "query": " ", "labels": [{"id": "nowhere", "relevance": 2}]},
]


@pytest.mark.parametrize("is_list", [True, False])
def test_toolrets_format_is_read_as_a_list_or_line_by_line(data, tmp_path, is_list):
    path = tmp_path / "queries.json"
    path.write_text(json.dumps(TOOLRET) if is_list else "\n".join(map(json.dumps, TOOLRET)))
    index, corpus = load_index(data, "Atomic"), load_corpus(data / "retrieval/G1/corpus.tsv")
    first, second, third = load_toolret_queries(path, corpus, index)
    assert (first.labels, second.labels, third.labels) == ((WATCH,), (CAFE, TIDE), ())
    assert (third.unknown, third.problem) == (("nowhere",), "the query is empty")
    [each] = load_sets(choice(data, query_file=path, splits=["mine"], constrained=[True]))
    assert (each.name, len(each.queries)) == ("G1 mine constrained", 3)


def test_half_a_surrogate_pair_in_a_query_is_no_text_for_a_tokenizer_and_replaced(data, tmp_path):
    path = tmp_path / "queries.json"
    path.write_text(json.dumps([{"id": "1", "query": "half a \ud83d smile", "labels": [{"id": "1"}]}]))
    [query] = load_toolret_queries(path, None, load_index(data, "Atomic"))
    assert query.text == "half a \ufffd smile"


def test_toolrets_format_needs_a_corpus_only_where_the_space_is_the_corpus(data, tmp_path):
    path = tmp_path / "queries.json"
    path.write_text(json.dumps(TOOLRET[1:2]))
    far = {"query_file": path, "stages": ["elsewhere"], "constrained": [True]}
    [each] = load_sets(choice(data, **far))
    assert each.queries[0].labels == (CAFE, TIDE)
    with pytest.raises(ConfigError, match="limit_to_stage_space"):
        load_sets(choice(data, limited=True, **far))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"id": "q", "labels": []}], "a text under"),
        ([{"id": "q", "query": "x", "labels": {}}], "labels is not a list"),
        ([{"id": "q", "query": "x", "labels": "[1"}], "labels is a text that is not JSON"),
        ([{"id": "q", "query": "x", "labels": [{"id": "1", "relevance": "high"}]}], "as a number"),
        ([TOOLRET[0], TOOLRET[0]], "appears twice"),
        ([], "no queries"),
        ([{"id": "q", "query": "x", "labels": []}], "no query has a label"),
    ],
)
def test_a_malformed_query_of_toolrets_format_is_named(data, tmp_path, entries, words):
    path = tmp_path / "queries.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(DataError, match=words):
        load_toolret_queries(path, None, load_index(data, "Atomic"))
