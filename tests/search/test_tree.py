"""The tree of a query and its JSON forms, which are part of the answer files."""

from itertools import pairwise

import pytest

from evaluation.toolbench.inference.Tree.Tree import my_tree, tree_node
from tests.helpers.environment import make_env

USER = {"role": "user", "content": "q"}


def step(node: tree_node, message: dict, observation: str = "o") -> tree_node:
    """Thought, Action and Action Input below `node`, as a search adds them."""
    node = node.add_child("Thought", "t").add_child("Action", "f").add_child("Action Input", "{}")
    node.observation, node.observation_code = observation, 0
    node.messages += [message, {"role": "tool", "name": "f", "content": observation, "tool_call_id": None}]
    return node


def assistant(number: int) -> dict:
    return {"role": "assistant", "content": str(number)}


def test_a_new_tree_is_its_root():
    record = my_tree().to_json_recursive()
    assert list(record) == ["size", "max_length", "tree"]
    assert (record["size"], record["max_length"], record["tree"]["node_type"]) == (1, 1, "Action Input")


def test_node_json_has_the_keys_of_the_answer_file_in_their_order(tmp_path):
    root = my_tree().root
    root.io_state = make_env(tmp_path)
    node = step(root, assistant(1))
    assert node.to_json() == {
        "is_terminal": False,
        "pruned": False,
        "finished": False,
        "depth": 3,
        "node_type": "Action Input",
        "description": "{}",
        "Elo": 1000.0,
        "observation": "o",
        "observation_code": 0,
        "child_count": 0,
        "expand_num": 0,
        "io_state": {},
    }
    assert list(node.to_json())[-6:] == [
        "Elo",
        "observation",
        "observation_code",
        "child_count",
        "expand_num",
        "io_state",
    ]
    assert list(root.children[0].to_json())[-2:] == ["child_count", "expand_num"]
    assert list(node.to_json_recursive())[-1] == "children"
    node.messages[0]["valid"] = False
    assert node.to_json(use_messages=True)["messages"] == ["assistant_invalid", "tool"]


def test_finish_marks_up_to_the_next_action_inputs_and_no_further():
    root = my_tree().root
    first = step(root, assistant(1))
    third = step(step(first, assistant(2)), assistant(3))
    third.make_finish(1)
    assert [node.finished for node in third.path()] == [False, False, False, False, False, True, True, True, True]


def test_train_messages_are_one_conversation_a_step_each_a_prefix_of_the_next():
    root = my_tree().root
    root.messages = [USER]
    node = step(step(root, assistant(1)), assistant(2))
    node = node.add_child("Thought", "no call")
    node.messages.append(assistant(3))
    conversations = node.get_train_messages_from_this_node()
    assert [messages[-1] for messages in conversations] == [assistant(1), assistant(2), assistant(3)]
    for shorter, longer in pairwise(conversations):
        assert longer[: len(shorter)] == shorter


def test_of_invalid_messages_the_last_alone_is_kept():
    root = my_tree().root
    hints = [{"role": "user", "content": f"hint {k}", "valid": False} for k in range(2)]
    root.messages = [USER, *hints]
    [conversation] = step(root, assistant(1)).get_train_messages_from_this_node()
    assert conversation == [USER, hints[1], assistant(1)]


def test_two_branches_meet_in_the_node_they_share():
    root = my_tree().root
    fork = step(root, assistant(1))
    left, right = step(fork, assistant(2), "left"), step(fork, assistant(3), "right")
    assert tree_node.find_ancestor_intersection(left, right) is fork
    assert tree_node.find_ancestor_intersection(fork, right) is fork
    assert "right" in right.get_former_trice_from_this_node(end_node=fork)
    assert "Observation: o" not in right.get_former_trice_from_this_node(end_node=fork)
    with pytest.raises(ValueError, match="different trees"):
        tree_node.find_ancestor_intersection(left, my_tree().root)


def test_a_trace_is_numbered_lines_with_observations_cut_as_toolbench_writes_them():
    root = my_tree().root
    assert root.get_former_trice_from_this_node() == "None"
    thought = root.add_child("Thought", "look it up")
    call = thought.add_child("Action", "forecast").add_child("Action Input", "{}")
    call.observation = "x" * 1024
    assert call.get_former_trice_from_this_node(end_node=thought) == (
        f"step_1: Action: forecast\n\nstep_2: Action Input: {{}}\n\nstep_3: Observation: {'x' * 1024}\n\n"
    )
    call.observation += "yz"
    assert call.get_former_trice_from_this_node(["Thought", "Observation"]) == (
        f"step_1: Thought: look it up\n\nstep_2: Observation: {'x' * 1024}...(len=1026)\n\n"
    )
    assert call.get_former_trice_from_this_node(["Thought"]) == "step_1: Thought: look it up\n\n"


def test_what_one_branch_adds_no_other_branch_sees():
    root = my_tree().root
    root.messages = [USER]
    step(root, assistant(1))
    assert root.messages == [USER]
    assert step(root, assistant(2)).messages[:2] == [USER, assistant(2)]
