"""Searches by CoT@n: up to n independent tries, each one path from the query to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.toolbench.inference.Algorithms.base_search import base_search_method
from evaluation.toolbench.inference.Algorithms.llm_calls import LanguageModel, begin_query
from evaluation.toolbench.inference.Tree.base_env import base_env
from evaluation.toolbench.inference.Tree.Tree import Message, tree_node


class single_chain(base_search_method):
    """`start_message_list` replaces the first messages, `extra_prefix` is kept for callers and not used."""

    def __init__(
        self,
        llm: LanguageModel,
        io_func: base_env,
        extra_prefix: str = "",
        process_id: int = 0,
        start_message_list: Sequence[Message] | None = None,
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(llm, io_func, process_id, callbacks)
        self.extra_prefix = extra_prefix
        self.start_message_list = start_message_list

    def restart(self) -> None:
        super().restart()
        self.try_list: list[dict[str, Any]] = []
        self.success_count = 0
        self.forward_args: dict[str, Any] = {}

    def start(self, single_chain_max_step: int, pass_at: int = 1, answer: int = 1) -> int:
        """Run; return 1 as soon as `answer` of the tries gave a final answer, 0 when none of `pass_at` tries is left.

        `single_chain_max_step` limits a path's depth in nodes, of which a step has three.
        """
        self.restart()
        self.forward_args = {"single_chain_max_step": single_chain_max_step, "pass_at": pass_at, "answer": answer}
        begin_query(self.llm)
        for _ in range(pass_at):
            end = self._run_chain(self.new_tree(self.start_message_list).root, single_chain_max_step)
            self.terminal_node.append(end)
            self.success_count += end.is_terminal
            self.status = int(self.success_count >= answer)
            self.try_list.append({"chain": end.get_chain_result_from_this_node(), "win": end.is_terminal})
            if self.status:
                break
        return self.status

    def to_json(self, answer: bool = False, process: bool = True) -> dict[str, Any]:
        record: dict[str, Any] = {}
        solved = [node for node in self.terminal_node if not node.pruned]
        if process:
            record = {
                "win": self.status == 1,
                "try_count": len(self.try_list),
                "trys": self.try_list,
                "compare_candidates": [node.get_chain_result_from_this_node() for node in solved],
                "forward_args": self.forward_args,
            }
        if answer:
            record["answer_generation"] = {
                "valid_data": bool(solved),
                "final_answer": solved[0].description if solved else "",
                "function": self.io_func.functions,
                "query_count": self.query_count,
                "total_tokens": self.total_tokens,
                "train_messages": solved[0].get_train_messages_from_this_node() if solved else [],
                "chain": [],
            }
        return record

    def _run_chain(self, node: tree_node, max_depth: int) -> tree_node:
        """Take steps below `node` until an answer, a give-up or the depth limit; return the last node."""
        while not (node.pruned or node.is_terminal):
            depth = node.get_depth() // 3
            block_ids = self.events.send("on_chain_start", depth=depth, inputs=node.messages)
            node = self.grow(node, *self.take_step(node))
            if node.get_depth() >= max_depth and not node.is_terminal:
                node.pruned = True
            self.events.send_each("on_chain_end", block_ids, depth=depth)
        return node
