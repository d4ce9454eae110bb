"""The demo's data folder: complete, consistent, the same every time, and its held-out queries held out."""

from __future__ import annotations

import json
import re
from random import Random

import pytest

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.demo.make_data import QUERY_FILE, write_data
from evaluation.toolbench.demo.samples import bare_words, demo_queries, training_sample
from evaluation.toolbench.demo.world import TASKS, TOOLS
from evaluation.toolbench.demo.world.schema import expansions
from evaluation.toolbench.demo.world.values import HELD_OUT, sample_value
from evaluation.toolbench.inference.toolgen.catalog import load_catalog
from evaluation.toolbench.names import change_name, get_toolbench_name, standardize
from evaluation.toolbench.virtual_api.cache import ResponseCache
from evaluation.toolbench.virtual_api.cache_names import RecordName
from evaluation.toolbench.virtual_api.keys import parse_tool_input

QUERIES = demo_queries()
HELD_OUT_QUERIES = [query for query in QUERIES if query.split == "held_out"]
STEPS = [step for query in QUERIES for step in query.trajectory.steps]


FREE_KINDS = ("word", "count", "amount")  # of one part each, which other kinds may have


def content_words(lines: list[str]) -> set[str]:
    return {word for line in lines for word in bare_words(re.sub(r"\{\w+\}", "", line))}


def test_demo_is_as_large_as_promised():
    assert len(TOOLS) >= 10
    assert sum(len(tool.apis) for tool in TOOLS.values()) >= 30
    assert len(QUERIES) >= 60
    assert len(HELD_OUT_QUERIES) >= 40


def test_data_folder_is_what_make_data_writes(tmp_path):
    write_data(tmp_path, demo_queries())
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    committed = {path.relative_to(DATA_DIR): path.read_bytes() for path in DATA_DIR.rglob("*") if path.is_file()}
    assert written == committed


def test_every_expected_call_is_answered_by_the_cache():
    cache = ResponseCache(DATA_DIR / "tool_response_cache")
    for step in STEPS:
        tool = TOOLS[step.call.tool]
        name = RecordName.of_request(tool.category, standardize(tool.name), change_name(standardize(step.call.api)))
        found = cache.find(name, parse_tool_input(json.dumps(step.arguments)))
        assert found is not None, (name, step.arguments)
        assert found == ({"error": "", "response": step.answer}, "exact")


def test_every_api_is_asked_for_by_a_held_out_query():
    asked = {(step.call.tool, step.call.api) for query in HELD_OUT_QUERIES for step in query.trajectory.steps}
    assert asked == {(tool.name, api.name) for tool in TOOLS.values() for api in tool.apis}


def test_calls_have_the_documented_parameters():
    for step in STEPS:
        api = TOOLS[step.call.tool].api(step.call.api)
        required = {parameter.name for parameter in api.required}
        assert required <= set(step.arguments) <= required | {parameter.name for parameter in api.optional}


def test_catalog_has_every_api_of_the_world_with_its_documentation():
    catalog = load_catalog(DATA_DIR, "Atomic", "Ends the task.")
    names = {get_toolbench_name(tool.name, api.name) for tool in TOOLS.values() for api in tool.apis}
    assert set(catalog.token_to_toolbench_name.values()) == names | {"Finish"}
    assert catalog.documented_actions() == catalog.actions


def test_queries_name_only_apis_of_their_candidates():
    for query in json.loads((DATA_DIR / QUERY_FILE).read_text(encoding="utf-8")):
        candidates = {(api["tool_name"], api["api_name"]) for api in query["api_list"]}
        assert {tuple(pair) for pair in query["relevant APIs"]} <= candidates
        assert query["split"] in ("seen", "held_out")


def test_final_answers_say_what_the_apis_returned():
    for query in QUERIES:
        assert query.trajectory.facts
        assert all(fact in query.trajectory.answer for fact in query.trajectory.facts)


def test_held_out_wordings_are_no_training_wordings():
    trained = {bare_words(text) for task in TASKS for line in task.lines("seen") for text in expansions(line)}
    for task in TASKS:
        for line in task.lines("held_out"):
            assert not trained & {bare_words(text) for text in expansions(line)}


def test_words_of_held_out_wordings_are_known_from_their_own_task_or_from_none():
    """So that no held-out question can only be taken for one of another task."""
    seen = {task.name: content_words(task.lines("seen")) for task in TASKS}
    for task in TASKS:
        elsewhere = set().union(*(words for name, words in seen.items() if name != task.name))
        for line in task.lines("held_out"):
            assert (content_words([line]) - seen[task.name]).isdisjoint(elsewhere), line


@pytest.mark.parametrize("kind", HELD_OUT)
def test_held_out_values_are_never_sampled(kind):
    rng = Random(3)
    assert not set(HELD_OUT[kind]) & {sample_value(kind, rng) for _ in range(2000)}


def test_training_samples_hold_no_held_out_value():
    values = [re.escape(str(value)) for kind in HELD_OUT if kind not in FREE_KINDS for value in HELD_OUT[kind]]
    pattern = re.compile(rf"\b({'|'.join(values)})\b")
    rng = Random(4)
    texts = [str(training_sample(rng)) for _ in range(3000)]
    assert [text for text in texts if pattern.search(text)] == []


@pytest.mark.parametrize("kind", HELD_OUT)
def test_no_part_stands_twice_in_a_value(kind):
    rng = Random(6)
    values = [*HELD_OUT[kind], *(sample_value(kind, rng) for _ in range(300))]
    for value in values:
        parts = re.findall(r"[^\W\d_]+|20\d\d(?=-)|\d{1,2}", str(value))
        assert kind == "date" or len(set(parts)) == len(parts), value


def test_held_out_slots_hold_only_held_out_values():
    for query in HELD_OUT_QUERIES:
        values = {value for kind in query.trajectory.task.slots.values() for value in HELD_OUT[kind]}
        used = {value for step in query.trajectory.steps[:1] for value in step.arguments.values()}
        assert used <= values


def test_training_samples_are_the_same_for_the_same_seed():
    first, second = Random("7 chunk 0"), Random("7 chunk 0")
    assert [training_sample(first) for _ in range(50)] == [training_sample(second) for _ in range(50)]
