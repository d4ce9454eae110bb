"""Holds what CoT and DFS share: a tree to grow, the first messages, and one step of the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from evaluation.toolbench.inference.Algorithms.events import Events
from evaluation.toolbench.inference.Algorithms.llm_calls import (
    LanguageModel,
    ask_step,
    calls_of,
    functions_for,
)
from evaluation.toolbench.inference.Algorithms.search_prompts import search_prompts
from evaluation.toolbench.inference.records.finish import GAVE_UP, UNKNOWN_FUNCTION
from evaluation.toolbench.inference.Tree.base_env import base_env
from evaluation.toolbench.inference.Tree.Tree import Message, my_tree, tree_node

INVALID_FUNCTION_NAME = "invalid_hallucination_function_name"


class base_search_method(ABC):
    """Searches for the answer to one query. `start` runs it, `to_json` gives the answer file's record."""

    def __init__(
        self, llm: LanguageModel, io_func: base_env, process_id: int = 0, callbacks: Sequence[Any] | None = None
    ) -> None:
        self.llm = llm
        self.io_func = io_func
        self.process_id = process_id
        self.callbacks = list(callbacks or ())
        self.events = Events(callbacks)
        self.restart()

    def restart(self) -> None:
        """Forget what an earlier `start` found."""
        self.status = 0  # 1 once there is an answer
        self.terminal_node: list[tree_node] = []
        self.query_count = 0  # calls of the model
        self.total_tokens = 0

    @abstractmethod
    def to_json(self, answer: bool = False, process: bool = True) -> dict[str, Any]:
        """Return the answer file's record; `process` is what was tried, `answer` what came out of it."""

    def final_messages(self) -> list[Message]:
        """Return the conversation that led to the answer; without one, to the first end that was reached, if any."""
        ends = [node for node in self.terminal_node if not node.pruned] or self.terminal_node
        return ends[0].messages if ends else []

    def new_tree(self, messages: Sequence[Message] | None = None) -> my_tree:
        """Return a tree whose root has the environment and the conversation's first messages."""
        tree = my_tree()
        tree.root.io_state = self.io_func.copy()
        tree.root.messages = list(messages) if messages else self._first_messages()
        return tree

    def take_step(self, node: tree_node) -> tuple[Message, int]:
        """Ask the model what to do after `node`: its message, and the error code that came with it."""
        depth = node.get_depth() // 3
        self.events.send("on_llm_start", depth=depth, messages=node.messages)
        message, error_code, tokens = ask_step(
            self.llm, node.messages, functions_for(self.llm, self.io_func), self.process_id
        )
        self.query_count += 1
        self.total_tokens += tokens
        self.events.send("on_llm_end", depth=depth, response=message)
        return message, error_code

    def grow(self, node: tree_node, message: Message, error_code: int) -> tree_node:
        """Add a step below `node`, making the calls it asks for; return the last node of it.

        That node is pruned after an error and after giving up, and terminal after a final answer. A message
        that says nothing still makes a `Thought`, so that every step leads deeper and towards the limit.
        """
        depth = node.get_depth() // 3
        calls = [] if error_code != 0 else calls_of(message)
        if message.get("content") is not None or not calls:
            node = node.add_child("Thought", message.get("content") or "")
            if error_code != 0:
                node.observation_code = error_code
                node.pruned = True
        if not calls:
            node.messages.append(message)
        for position, (call_id, call) in enumerate(calls):
            node = self._make_call(node, call, depth)
            if position == 0:
                node.messages.append(message)
            reply = {"role": "tool", "name": call["name"], "content": node.observation, "tool_call_id": call_id}
            node.messages.append(reply)
            if node.is_terminal or node.pruned:
                # ToolBench makes the calls after a final answer too, and writes the last one's arguments as the answer.
                break
        return node

    def _first_messages(self) -> list[Message]:
        prompts, env = search_prompts(), self.io_func
        system = prompts.format_instructions_system_function.replace("{task_description}", env.task_description)
        user = prompts.format_instructions_user_function.replace("{input_description}", env.input_description)
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    def _make_call(self, node: tree_node, call: dict[str, str], depth: int) -> tree_node:
        """Add `Action` and `Action Input` below `node`, and let the environment answer.

        A call of an unknown function keeps its name in the tree and loses it in the conversation.
        """
        name, arguments = call["name"], call["arguments"]
        block_ids = self.events.send("on_agent_action", depth=depth, action=name, action_input=arguments)
        node = node.add_child("Action", name).add_child("Action Input", arguments)
        assert node.io_state is not None  # the root has one, and every child gets a copy
        self.events.send("on_tool_start", depth=depth, tool_name=name, tool_input=arguments)
        node.observation, node.observation_code = node.io_state.step(action_name=name, action_input=arguments)
        self.events.send("on_tool_end", depth=depth, output=node.observation, status=node.observation_code)
        node.is_terminal = bool(node.io_state.check_success())
        if node.observation_code == GAVE_UP:
            node.pruned = True
        elif node.observation_code == UNKNOWN_FUNCTION:
            call["name"] = INVALID_FUNCTION_NAME
        self.events.send_each("on_agent_end", block_ids, depth=depth)
        return node
