"""Holds the tree of one query: every thought, action and action input that the model produced.

A CoT try is a tree with one path; DFS branches. A step of the model adds up to three nodes, one below
the other: `Thought` (what it wrote), `Action` (the function it chose), `Action Input` (the arguments,
with the environment's observation and status code). The root is an `Action Input` of depth 0.

The keys of the JSON forms are part of the answer files (see `to_json`), so their names and order stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evaluation.toolbench.inference.Tree.base_env import base_env

Message = dict[str, Any]  # {"role", "content", ...} as chat models exchange it

TRACE_TYPES = ("Thought", "Action", "Action Input", "Observation")  # what a trace may show: nodes, and their replies
_TRACED_OBSERVATION = 1024  # characters of an observation in a trace


class my_tree:
    """Grows from a root that stands alone at first."""

    def __init__(self) -> None:
        self.root = tree_node("Action Input")

    def to_json_recursive(self, use_messages: bool = False) -> dict[str, Any]:
        """Return {"size": nodes, "max_length": depth in nodes, the root counted, "tree": the root's JSON}."""
        return {
            "size": self.root.get_size(),
            "max_length": self.root.get_max_depth(),
            "tree": self.root.to_json_recursive(use_messages),
        }


class tree_node:
    """Holds one node. `messages` is the conversation up to and with this node, as the model is shown it."""

    def __init__(self, node_type: str = "", description: str = "") -> None:
        self.node_type = node_type
        self.description = description
        self.father: tree_node | None = None
        self.children: list[tree_node] = []
        self.messages: list[Message] = []
        self.io_state: base_env | None = None  # the environment after this node
        self.observation = ""
        self.observation_code: int | None = None
        self.is_terminal = False  # a final answer was given here
        self.pruned = False  # nothing may follow here
        self.finished = False
        self.expand_num = 0  # order in which DFS expanded this node
        self.Elo = 1000.0

    def add_child(self, node_type: str, description: str) -> tree_node:
        """Return a new last child with a list of messages and an environment of its own."""
        child = tree_node(node_type, description)
        child.father = self
        child.messages = list(self.messages)
        if self.io_state is not None:
            child.io_state = self.io_state.copy()
            child.is_terminal = bool(child.io_state.check_success())
        self.children.append(child)
        return child

    def path(self) -> list[tree_node]:
        """Return the nodes from below the root to this one."""
        nodes: list[tree_node] = []
        node = self
        while node.father is not None:
            nodes.append(node)
            node = node.father
        nodes.reverse()
        return nodes

    def walk(self) -> Iterator[tree_node]:
        """Yield this node and all below it, fathers before children."""
        yield self
        for child in self.children:
            yield from child.walk()

    def get_depth(self) -> int:
        """Return nodes above this one; 0 for the root."""
        return len(self.path())

    def get_max_depth(self) -> int:
        """Return nodes on the longest path from here down, this one counted."""
        return 1 + max((child.get_max_depth() for child in self.children), default=0)

    def get_size(self) -> int:
        return sum(1 for _ in self.walk())

    def make_finish(self, inter_val: int = 1) -> None:
        """Mark this node and its ancestors, up to and with the `inter_val` + 1st `Action Input`, finished."""
        node: tree_node | None = self
        while node is not None and inter_val >= 0:
            node.finished = True
            if node.node_type == "Action Input":
                inter_val -= 1
            node = node.father

    def to_json(self, use_messages: bool = False) -> dict[str, Any]:
        """Return this node alone, without its children."""
        record: dict[str, Any] = {
            "is_terminal": self.is_terminal,
            "pruned": self.pruned,
            "finished": self.finished,
            "depth": self.get_depth(),
            "node_type": self.node_type,
            "description": self.description,
            "Elo": self.Elo,
        }
        if self.observation != "":
            record["observation"] = self.observation
        if self.observation_code is not None:
            record["observation_code"] = self.observation_code
        record["child_count"] = len(self.children)
        record["expand_num"] = self.expand_num
        if self.io_state is not None and self.node_type == "Action Input":
            record["io_state"] = self.io_state.to_json()
        if use_messages:
            record["messages"] = [
                message["role"] if message.get("valid", True) else message["role"] + "_invalid"
                for message in self.messages
            ]
        return record

    def to_json_recursive(self, use_messages: bool = False) -> dict[str, Any]:
        record = self.to_json(use_messages)
        record["children"] = [child.to_json_recursive(use_messages) for child in self.children]
        return record

    def get_chain_result_from_this_node(self, use_messages: bool = False) -> list[dict[str, Any]]:
        """Return the nodes from below the root to this one, as JSON."""
        return [node.to_json(use_messages) for node in self.path()]

    def get_train_messages_from_this_node(self) -> list[list[Message]]:
        """Return one conversation per step on the way here, each ending in that step's assistant message.

        An `Action Input` is cut back to its last assistant message. A `Thought` counts only where the
        step made no call, that is, where its own conversation ends in an assistant message.
        """
        conversations = []
        for node in self.path():
            if node.node_type == "Action Input":
                messages = _up_to_last_assistant(node.messages)
            elif node.node_type == "Thought":
                messages = _without_trailing_user(node.messages)
            else:
                continue
            if messages and messages[-1]["role"] == "assistant":
                conversations.append(_with_last_invalid_only(messages))
        return conversations

    @staticmethod
    def find_ancestor_intersection(node1: tree_node, node2: tree_node) -> tree_node:
        """Return the deepest node that is on the way from the root to both, the nodes themselves included."""
        above = {id(node) for node in [node1.root(), *node1.path()]}
        node = node2
        while id(node) not in above:
            if node.father is None:
                raise ValueError("the two nodes are of different trees")
            node = node.father
        return node

    def root(self) -> tree_node:
        node = self
        while node.father is not None:
            node = node.father
        return node

    def get_former_trice_from_this_node(
        self, valid_types: Sequence[str] = TRACE_TYPES, end_node: tree_node | None = None
    ) -> str:
        """Return the way from below `end_node` (None: the root) to this node as numbered lines; "None" without any.

        The text is ToolBench's to the byte. `valid_types` chooses from `TRACE_TYPES`.
        """
        nodes = self.path()
        if end_node is not None and end_node in nodes:
            nodes = nodes[nodes.index(end_node) + 1 :]
        steps = []
        for node in nodes:
            if node.node_type in valid_types:
                steps.append(f"{node.node_type}: {node.description}")
            if node.observation != "" and "Observation" in valid_types:
                steps.append(f"Observation: {_shortened(node.observation)}")
        return "".join(f"step_{number}: {step}\n\n" for number, step in enumerate(steps, start=1)) or "None"


def _shortened(observation: str) -> str:
    if len(observation) <= _TRACED_OBSERVATION:
        return observation
    return f"{observation[:_TRACED_OBSERVATION]}...(len={len(observation)})"


def _up_to_last_assistant(messages: list[Message]) -> list[Message]:
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    return messages[: last + 1]


def _without_trailing_user(messages: list[Message]) -> list[Message]:
    end = len(messages)
    while end and messages[end - 1]["role"] == "user":
        end -= 1
    return messages[:end]


def _with_last_invalid_only(messages: list[Message]) -> list[Message]:
    """Return the messages; of those marked `"valid": False` only the last, which belongs to the last step, is kept."""
    invalid = [i for i, message in enumerate(messages) if not message.get("valid", True)]
    dropped = set(invalid[:-1])
    return [message for i, message in enumerate(messages) if i not in dropped]
