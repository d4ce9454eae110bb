"""The check at the end of the benchmark on real queries."""

import json

from benchmarks.real_queries import actions_of, report_on


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
