"""The folder of recorded answers: which file, which key, and what storing promises."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.virtual_api.cache import ResponseCache
from evaluation.toolbench.virtual_api.cache_names import RecordName
from evaluation.toolbench.virtual_api.keys import KeyIndex, parse_tool_input, record_key

SKY = RecordName("News_Media", "sky_watch_for_News_Media", "daily_forecast")
PARIS = {"city": "Paris", "days": 1}
SUNNY = {"error": "", "response": "sunny"}


def record(root: Path, answers: object, name: RecordName = SKY) -> Path:
    relative = name.relative_path()
    assert relative is not None
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(answers if isinstance(answers, str) else json.dumps(answers), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("category", "tool", "api"),
    [
        ("News, Media", "Sky Watch", "Daily Forecast"),
        ("News_Media", "sky_watch", "daily_forecast"),
        ("News_Media", "sky_watch_for_News_Media", "daily_forecast"),
        ("News_Media", "sky_watch", "daily_forecast_for_sky_watch"),
    ],
)
def test_raw_standard_and_suffixed_names_lead_to_the_same_record(category: str, tool: str, api: str) -> None:
    assert RecordName.of_request(category, tool, api) == SKY


@given(category=st.text(), tool=st.text(), api=st.text())
def test_no_name_leaves_the_cache_folder(category: str, tool: str, api: str) -> None:
    path = RecordName.of_request(category, tool, api).relative_path()
    assert path is None or (len(path.parts) == 3 and ".." not in path.parts and not path.is_absolute())


@pytest.mark.parametrize("category", ["..", ".", "../../etc", "a/../..", "/etc", "x\0y", "y" * 300])
def test_hostile_categories_find_nothing_and_store_nothing(tmp_path: Path, category: str) -> None:
    root = tmp_path / "cache"
    root.mkdir()
    name = RecordName(category, f"t_for_{category}", "passwd")
    cache = ResponseCache(root)
    assert cache.find(name, {}) is None
    with pytest.raises(OutputError):
        cache.store(name, {}, SUNNY)
    assert list(tmp_path.rglob("*.json")) == []


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    record(outside, {"{}": SUNNY})
    root = tmp_path / "cache"
    root.mkdir()
    os.symlink(outside / SKY.category, root / SKY.category)
    assert ResponseCache(root).find(SKY, {}) is None


def test_the_exact_key_comes_before_one_that_means_the_same(tmp_path: Path) -> None:
    other_order = {"days": 1, "city": "Paris"}
    record(tmp_path, {record_key(other_order): {"error": "", "response": "fuzzy"}, record_key(PARIS): SUNNY})
    cache = ResponseCache(tmp_path)
    found = cache.find(SKY, PARIS)
    assert found is not None
    assert found.answer == SUNNY
    assert found.match == "exact"


@pytest.mark.parametrize("arguments", [{"days": 1, "city": "Paris"}, {"city": "Paris", "days": "1"}])
def test_fuzzy_finds_another_order_and_numbers_as_text(tmp_path: Path, arguments: dict[str, object]) -> None:
    record(tmp_path, {record_key(PARIS): SUNNY})
    found = ResponseCache(tmp_path).find(SKY, arguments)
    assert found is not None
    assert found.match == "fuzzy"
    assert ResponseCache(tmp_path, fuzzy=False).find(SKY, arguments) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), json_values, max_size=4))
def test_any_recorded_arguments_are_found_in_any_order(arguments: dict[str, object]) -> None:
    key = record_key(arguments)
    shuffled = dict(reversed(arguments.items()))
    assert KeyIndex([key]).find(shuffled) == key


@pytest.mark.parametrize("text", ["{", "not json", "[" * 100_000])
def test_arguments_that_are_no_json_are_told_apart(text: str) -> None:
    with pytest.raises(ValueError):
        parse_tool_input(text)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"text"', "null"])
def test_a_broken_file_counts_as_empty_and_is_kept_when_extended(tmp_path: Path, content: str) -> None:
    path = record(tmp_path, content)
    cache = ResponseCache(tmp_path)
    assert cache.find(SKY, PARIS) is None
    cache.store(SKY, PARIS, SUNNY)
    assert json.loads(path.read_text()) == {record_key(PARIS): SUNNY}
    assert path.with_name(f"{path.name}.broken").read_text() == content


def test_a_file_changed_by_somebody_else_is_read_again(tmp_path: Path) -> None:
    record(tmp_path, {"{}": SUNNY})
    cache = ResponseCache(tmp_path)
    assert cache.find(SKY, {}) is not None
    record(tmp_path, {"{}": {"error": "", "response": "raining now"}})
    found = cache.find(SKY, {})
    assert found is not None
    assert found.answer["response"] == "raining now"


def test_a_pipe_in_the_folder_does_not_block(tmp_path: Path) -> None:
    path = record(tmp_path, "{}")
    path.unlink()
    os.mkfifo(path)
    assert ResponseCache(tmp_path).find(SKY, {}) is None


def test_memory_is_bounded(tmp_path: Path) -> None:
    names = [RecordName("Data", f"tool_{number}_for_Data", "get") for number in range(20)]
    for name in names:
        record(tmp_path, {"{}": {"error": "", "response": "x" * 1000}}, name)
    cache = ResponseCache(tmp_path, max_memory_bytes=5000)
    assert all(cache.find(name, {}) for name in names)
    assert cache.in_memory()[0] <= 5


def test_answers_stored_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    caches = [ResponseCache(tmp_path) for _ in range(4)]  # as of four processes: nothing is shared but the disk

    def store(first: int) -> None:
        for number in range(first, first + 10):
            caches[first // 10].store(SKY, {"n": number}, SUNNY)

    threads = [threading.Thread(target=store, args=(first,)) for first in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ResponseCache(tmp_path).find(SKY, {"n": number}) for number in range(40))


def test_of_two_that_store_the_same_call_the_first_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    rainy = {"error": "", "response": "rainy"}
    one, two = ResponseCache(tmp_path), ResponseCache(tmp_path)
    assert one.store(SKY, PARIS, SUNNY, keep_first=True) == SUNNY
    assert two.store(SKY, PARIS, rainy, keep_first=True) == SUNNY
    assert two.store(SKY, PARIS, rainy) == rainy
    found = one.find(SKY, PARIS)
    assert found is not None
    assert found.answer == rainy


def test_a_folder_that_cannot_be_written_is_an_error_and_stays_as_it_was(tmp_path: Path) -> None:
    path = record(tmp_path, {"{}": SUNNY})
    cache = ResponseCache(tmp_path)
    blocker = path.parent / ".lock"
    blocker.mkdir()
    with pytest.raises(OutputError, match="Cannot record an answer"):
        cache.store(SKY, PARIS, SUNNY)
    assert json.loads(path.read_text()) == {"{}": SUNNY}
