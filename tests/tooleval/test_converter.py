"""Conversion: ToolEval's form of an answer, whatever else lies in the folder."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.tooleval.convert_to_answer_format import main
from evaluation.toolbench.tooleval.converted import read_converted
from evaluation.toolbench.tooleval.converter import convert
from evaluation.toolbench.tooleval.judge.checks import CHECKS, PARSE_ANSWER
from tests.helpers.scoring import EXAMPLE

COT, DFS = "CoT@1", "DFS_woFilter_w2"


def example(model="tram-cot", name="5001_CoT@1.json"):
    return json.loads((EXAMPLE / "answer" / model / "G9_demo" / name).read_text())


def steps_of(converted):
    """Role and message of each node, and that it is a chain."""
    steps, nodes = [], converted["answer"]["answer_details"]
    while nodes:
        [node] = nodes
        steps.append((node["role"], node["message"]))
        nodes = node["next"]
    assert len(steps) == converted["answer"]["total_steps"]
    return steps


def thought(text, *children):
    return {"node_type": "Thought", "description": text, "children": list(children)}


def action(name, arguments, observation, *children):
    below = {"node_type": "Action Input", "description": arguments, "children": list(children)}
    if observation:
        below["observation"] = observation
    return {"node_type": "Action", "description": name, "children": [below]}


def unanswered(**search):
    return {**search, "answer_generation": {"valid_data": False, "query": "q", "final_answer": ""}}


def of_tree(children, query_id="1"):
    return convert(unanswered(tree={"tree": {"children": children}}), query_id, DFS)


def of_chain(chain):
    return convert(unanswered(trys=[{"chain": chain}]), "1", COT)


def answered(*messages):
    generation = {"valid_data": True, "query": "q", "final_answer": "{}"}
    generation["train_messages"] = [[{"role": "system"}, {"role": "user"}, *messages]]
    return convert({"answer_generation": generation}, "1", COT)


def says(content, *calls):
    tool_calls = [{"id": each[0], "function": {"name": each[1], "arguments": each[2]}} for each in calls]
    return {"role": "assistant", "content": content, "tool_calls": tool_calls}


def run(folder, method, output):
    return main(["--answer_dir", str(folder), "--method", method, "--output", str(output)])


@pytest.mark.parametrize(("model", "method"), [("tram-cot", COT), ("tram-dfs", DFS)])
def test_example_is_converted_as_recorded(tmp_path, capsys, model, method):
    output = tmp_path / "new" / "G9_demo.json"
    assert run(EXAMPLE / "answer" / model / "G9_demo", method, output) == 0
    assert capsys.readouterr().out == "Converted 3 answers\n"
    recorded = (EXAMPLE / "model_predictions_converted" / model / "G9_demo.json").read_text()
    if model == "tram-cot":
        assert output.read_text() == recorded
        return
    found, expected = json.loads(output.read_text()), json.loads(recorded)
    drawn = steps_of(found.pop("5003"))
    assert expected.pop("5003")["query"] == "case-5003: Is tram 7 late tonight?"
    assert found == expected
    lines = [message["arguments"] for role, message in drawn if role == "tool"]
    assert lines in (['{"line": 70}', '{"line": 71}'], ['{"line": 72}'])  # one is as good as the other


def test_call_with_a_thought_is_one_step_without_it():
    call = says("I look.", ("a", "tide_for_sea", '{"port": 1}'))
    finish = says("Done.", ("b", "Finish", "{}"))
    assert steps_of(answered(call, {"role": "tool", "content": "6:12", "tool_call_id": "a"}, finish)) == [
        ("system", ""),
        ("user", ""),
        ("tool", {"name": "tide_for_sea", "arguments": '{"port": 1}', "response": "6:12"}),
        ("tool", {"name": "Finish", "arguments": "{}", "response": ""}),
    ]


def test_several_calls_in_a_message_are_steps_with_the_responses_of_their_ids():
    both = says("", ("a", "f", "1"), ("b", "g", "2"))
    replies = [{"role": "tool", "content": name, "tool_call_id": name} for name in ("b", "a")]
    steps = steps_of(answered(both, *replies, says("So.")))
    assert [message["response"] for role, message in steps if role == "tool"] == ["a", "b"]
    assert steps[-1] == ("assistant", "So.")


def test_calls_in_the_old_form_are_read():
    old = {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "1"}}
    assert steps_of(answered(old, {"role": "function", "content": "r"}))[2] == (
        "tool",
        {"name": "f", "arguments": "1", "response": "r"},
    )


def test_observation_that_is_absent_is_empty():
    chain = [{"node_type": "Action", "description": "f"}, {"node_type": "Action Input", "description": "{}"}]
    assert steps_of(of_chain(chain))[2] == ("tool", {"name": "f", "arguments": "{}", "response": ""})


def test_a_path_is_drawn_whole():
    children = [thought("a", action("f", "x", "o", thought("b", action("g", "y", "p")), thought("c")))]
    assert {len(steps_of(of_tree(children, str(number)))) for number in range(40)} == {6, 5}


def test_lots_depend_on_the_id_alone(tmp_path):
    record = unanswered(tree={"tree": {"children": [thought(str(number)) for number in range(8)]}})
    ids = [str(number) for number in range(30)]
    together, alone = tmp_path / "together", tmp_path / "alone"
    for folder, names in ((together, random.Random(0).sample(ids, len(ids))), (alone, ["17"])):
        folder.mkdir()
        for query_id in names:
            (folder / f"{query_id}_{DFS}.json").write_text(json.dumps(record))
        assert run(folder, DFS, tmp_path / f"{folder.name}.json") == 0
    converted = json.loads((tmp_path / "together.json").read_text())
    assert list(converted) == ids
    assert len({steps_of(each)[2] for each in converted.values()}) > 4
    assert json.loads((tmp_path / "alone.json").read_text()) == {"17": converted["17"]}


TREES = st.recursive(
    st.builds(thought, st.text(max_size=3)),
    lambda below: st.one_of(
        st.builds(lambda text, children: thought(text, *children), st.text(max_size=3), st.lists(below, max_size=3)),
        st.builds(
            lambda name, children: action(name, "{}", "o", *children), st.text(max_size=3), st.lists(below, max_size=3)
        ),
    ),
    max_leaves=12,
)


@given(st.lists(TREES, max_size=3), st.integers(0, 999).map(str))
def test_every_tree_gives_one_of_its_paths(children, query_id):
    def paths(nodes):
        if not nodes:
            return [[]]
        return [[node["description"], *rest] for node in nodes for rest in paths(node["children"])]

    drawn = []
    for role, message in steps_of(of_tree(children, query_id))[2:]:
        drawn += [message] if role == "assistant" else [message["name"], message["arguments"]]
    assert drawn in paths(children)


def damaged(change):
    record = example()
    change(record["answer_generation"])
    return record


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([], "is not an answer file"),
        ({}, "lacks 'answer_generation'"),
        (damaged(lambda generation: generation.pop("query")), "lacks 'query'"),
        (damaged(lambda generation: generation.update(final_answer=None)), "has a NoneType where text belongs"),
        (damaged(lambda generation: generation["train_messages"].clear()), "lacks"),
        (damaged(lambda generation: generation["train_messages"][-1].insert(2, {"role": "tool"})), "answers no call"),
        (unanswered(trys=[]), "empty list of tries"),
        (example("tram-dfs", "5003_DFS_woFilter_w2.json"), "has no tries: it is not of the method CoT@1"),
        (unanswered(trys=[{"chain": [{"node_type": "Action", "description": "f"}]}]), "'f', which has no input"),
        (unanswered(trys=[{"chain": [{"node_type": "Action Input", "description": "f"}]}]), "of type 'Action Input'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_file_is_said(record, words):
    with pytest.raises(DataError, match=words):
        convert(record, "1", COT)


def test_bad_files_are_named_and_the_others_converted(tmp_path, capsys):
    folder = tmp_path / "answers"
    shutil.copytree(EXAMPLE / "answer/tram-cot/G9_demo", folder)
    (folder / "6001_CoT@1.json").write_text('{"win": tr')
    (folder / "6002_CoT@1.json").write_text(json.dumps({"answer_generation": {}}))
    assert run(folder, COT, tmp_path / "out.json") == 1
    printed = capsys.readouterr()
    assert printed.out == "Converted 3 answers\n"
    first, second = printed.err.splitlines()
    assert "6001_CoT@1.json is not whole JSON" in first
    assert "6002_CoT@1.json lacks 'query'" in second
    assert list(json.loads((tmp_path / "out.json").read_text())) == ["5001", "5002", "5003"]


def test_an_answer_of_more_steps_than_json_nests_is_named_and_the_others_converted(tmp_path, capsys):
    for query_id, num_steps in (("1", 398), ("2", 399), ("3", 5000)):
        chain = [{"node_type": "Thought", "description": "Once more."}] * num_steps
        generation = {"query": "q", "final_answer": "", "valid_data": False}
        record = {"answer_generation": generation, "trys": [{"chain": chain}]}
        (tmp_path / f"{query_id}_CoT@1.json").write_text(json.dumps(record))
    output = tmp_path / "out" / "converted.json"
    assert main(["--answer_dir", str(tmp_path), "--method", "CoT@1", "--output", str(output)]) == 1
    assert "2_CoT@1.json has 401 steps" in capsys.readouterr().err
    answers = read_converted(output)
    assert [answers[each].total_steps for each in answers] == [400]
    assert CHECKS[PARSE_ANSWER].values((answers["1"],))


def test_a_method_does_not_take_the_answers_of_a_longer_one(tmp_path, capsys):
    folder = tmp_path / "answers"
    folder.mkdir()
    shutil.copy(EXAMPLE / "answer/tram-cot/G9_demo/5001_CoT@1.json", folder / "an_id_with_blanks_CoT@1.json")
    shutil.copy(EXAMPLE / "answer/tram-cot/G9_demo/5001_CoT@1.json", folder / "5001_CoT@10.json")
    (folder / "run.json").write_text("{}")
    assert run(folder, COT, tmp_path / "out.json") == 0
    assert list(json.loads((tmp_path / "out.json").read_text())) == ["an_id_with_blanks"]
    assert "passed over are answers of other methods: 1 of CoT@10" in capsys.readouterr().err


@pytest.mark.parametrize("names", [[], ["5001_DFS_w2.json", "5002_DFS_w2.json"]])
def test_no_answer_of_the_method_is_one_line(tmp_path, capsys, names):
    for name in names:
        (tmp_path / name).write_text("{}")
    assert run(tmp_path, COT, tmp_path / "out.json") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no answer of the method CoT@1" in line
    assert ("2 of DFS_w2" if names else "no answer files") in line


def test_a_folder_that_is_absent_is_one_line(tmp_path, capsys):
    assert run(tmp_path / "nowhere", COT, tmp_path / "out.json") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot read the answer folder" in line


def test_an_output_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(EXAMPLE / "answer/tram-cot/G9_demo", COT, tmp_path / "file/out.json") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot write" in line
