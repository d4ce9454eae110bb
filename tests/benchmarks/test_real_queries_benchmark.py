"""The check at the end of the benchmark on real queries."""

import json

from benchmarks.real_queries import _cache_without_replies, actions_of, report_on


def node(node_type, description, *children):
    return {"node_type": node_type, "description": description, "children": list(children)}


def record(name):
    chain = [node("Thought", "Look."), node("Action", name), node("Action Input", "{}")]
    return {"trys": [{"chain": chain}], "answer_generation": {"query_count": 1, "total_tokens": 9}}


def test_a_missing_answer_and_an_invented_action_are_counted(tmp_path):
    for query_id, name in (("1", "forecast_for_sky_watch"), ("2", "made_up_for_sky_watch")):
        (tmp_path / f"{query_id}_CoT@1.json").write_text(json.dumps(record(name)))
    assert report_on(tmp_path, "CoT@1", ["1", "2", "3"], {"forecast_for_sky_watch", "Finish"}) == {
        "queries": 3,
        "missing": 1,
        "model_calls": 2,
        "tokens": 18,
        "actions": 2,
        "invented_actions": 1,
    }


def test_actions_of_every_branch_are_seen():
    branches = [node("Action", name, node("Action Input", "{}")) for name in ("first", "second")]
    tree = {"tree": {"tree": node("Action Input", "", *branches)}}
    assert sorted(actions_of(tree)) == ["first", "second"]


def test_the_cache_of_a_benchmark_without_one_knows_an_api_of_the_queries(tmp_path):
    api = {"category_name": "Weather", "tool_name": "Sky Watch", "api_name": "Daily Forecast"}
    queries = tmp_path / "queries.json"
    queries.write_text(json.dumps([{"query": "?", "api_list": [api]}]))
    cache = _cache_without_replies(tmp_path / "cache", queries)
    assert (cache / "Weather/sky_watch_for_Weather/daily_forecast.json").read_text() == "{}"
