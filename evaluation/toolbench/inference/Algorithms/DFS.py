"""Searches a tree of steps depth first, with or without a ranking of siblings (`DFS_w2`, `DFS_woFilter_w2`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.toolbench.inference.Algorithms.base_search import base_search_method
from evaluation.toolbench.inference.Algorithms.llm_calls import begin_query, functions_for
from evaluation.toolbench.inference.Algorithms.ranking import rank_by_pairs
from evaluation.toolbench.inference.Algorithms.search_prompts import search_prompts
from evaluation.toolbench.inference.records.finish import FINAL_ANSWER, GAVE_UP
from evaluation.toolbench.inference.Tree.Tree import my_tree, tree_node

# `DFS` returns how many levels to go back. An end goes back over its own step and the one before, so that
# the next try differs in more than its last step; the other two values end the search.
_GO_BACK_AFTER_END = 2
_ENOUGH_ANSWERS = 10000
_OUT_OF_QUERIES = 100000


@dataclass(frozen=True)
class DfsLimits:
    """Holds the arguments of `start`, in the order the answer file has them."""

    single_chain_max_step: int
    tree_beam_size: int
    max_query_count: int
    answer: int
    with_filter: bool


class DFS_tree_search(base_search_method):
    """Gives every node up to `tree_beam_size` children. Without a filter each is followed down at once; with
    it all children of a node are made first, ranked by the model, and followed best first."""

    def restart(self) -> None:
        super().restart()
        self.give_up_node: list[tree_node] = []
        self.now_expand_num = 0
        self.tree = my_tree()
        self.forward_args: dict[str, Any] = {}

    def start(
        self,
        single_chain_max_step: int,
        tree_beam_size: int,
        max_query_count: int,
        answer: int = 1,
        with_filter: bool = True,
    ) -> int:
        """Search until `answer` final answers are found, `max_query_count` calls are made, or nothing is left.

        `single_chain_max_step` limits the depth in nodes, of which a step has three. The result is the
        number of levels that the root was told to go back, of interest to nobody but tests.
        """
        self.restart()
        limits = DfsLimits(single_chain_max_step, tree_beam_size, max_query_count, answer, with_filter)
        self.forward_args = asdict(limits)
        self.tree = self.new_tree()
        begin_query(self.llm)
        return self._search(self.tree.root, limits)

    def to_json(self, answer: bool = False, process: bool = True) -> dict[str, Any]:
        record: dict[str, Any] = {}
        if process:
            record = {
                "win": self.status == 1,
                "tree": self.tree.to_json_recursive(),
                "forward_args": self.forward_args,
                "compare_candidates": [node.get_chain_result_from_this_node() for node in self.terminal_node],
            }
        if answer:
            # An answer is worth more than a give-up; the last give-up has seen most of the tree (ToolBench takes one at
            # random, another in every run).
            end = next(iter(self.terminal_node or self.give_up_node[-1:]), None)
            gave_up = end is not None and not self.terminal_node
            record["answer_generation"] = {
                "valid_data": end is not None,
                "query_count": self.query_count,
                "total_tokens": self.total_tokens,
                "final_answer": end.description if end else "",
                "finish_type": "give_up" if gave_up else "give_answer",
                "function": self.io_func.functions,
                "chain": [],
            }
            if end is not None:
                record["answer_generation"]["train_messages"] = end.get_train_messages_from_this_node()
        return record

    def _search(self, node: tree_node, limits: DfsLimits) -> int:
        """Search below `node`; return how many levels to go back from it."""
        node.expand_num = self.now_expand_num
        self.now_expand_num += 1
        if node.is_terminal or node.pruned or node.get_depth() >= limits.single_chain_max_step:
            return self._end_at(node)
        candidates = []
        for _ in range(limits.tree_beam_size):
            child = self._expand(node, limits)
            if child is None:
                return _OUT_OF_QUERIES
            if limits.with_filter:
                candidates.append(child)
                continue
            go_back = self._follow(child, limits)
            if go_back > 0:
                return go_back
        for child in self._best_first(candidates):
            go_back = self._follow(child, limits)
            if go_back > 0:
                if go_back != _ENOUGH_ANSWERS:
                    node.make_finish(_GO_BACK_AFTER_END)
                return go_back
        return 1

    def _end_at(self, node: tree_node) -> int:
        if node.is_terminal:
            self.status = 1
            self.terminal_node.append(node)
            return _GO_BACK_AFTER_END
        node.pruned = True
        if node.observation_code == GAVE_UP:
            self.give_up_node.append(node)
            return _GO_BACK_AFTER_END
        return 1

    def _follow(self, child: tree_node, limits: DfsLimits) -> int:
        """Search below `child`; return how many levels its father goes back, which may be 0."""
        go_back = self._search(child, limits)
        if len(self.terminal_node) >= limits.answer:
            return _ENOUGH_ANSWERS
        return go_back - 1 if go_back > 1 else 0

    def _expand(self, node: tree_node, limits: DfsLimits) -> tree_node | None:
        """Return one more step below `node`: its last node, or None when the last call used up the budget."""
        diversity = self._diversity_message(node)
        if diversity is not None:
            node.messages.append(diversity)
        depth = node.get_depth() // 3
        block_ids = self.events.send("on_chain_start", depth=depth, inputs=node.messages)
        message, error_code = self.take_step(node)
        if self.query_count >= limits.max_query_count:
            return None
        if diversity is not None:
            diversity["valid"] = False  # meant for this one step
        child = self.grow(node, message, error_code)
        if child.observation_code == FINAL_ANSWER:
            child.make_finish(_GO_BACK_AFTER_END)
        self.events.send_each("on_chain_end", block_ids, depth=depth)
        return child

    @staticmethod
    def _diversity_message(node: tree_node) -> dict[str, Any] | None:
        """Tells the model what was already tried at this node; None where nothing was."""
        tried = []
        for child in node.children:
            while child.node_type != "Action Input" and child.children:
                child = child.children[0]
            if child.node_type == "Action Input" and child.father is not None:
                tried.append(
                    {
                        "name": child.father.description,
                        "arguments": child.description,
                        "function_output": child.observation,
                        "mento-carlo-action-value": 0.0,
                    }
                )
        if not tried:
            return None
        previous = json.dumps(tried, indent=2) + "\n"
        if node.observation != "":
            previous += f"again, your former observation: {node.observation}\n"
        return {"role": "user", "content": search_prompts().diversity_prompt.replace("{previous_candidate}", previous)}

    def _best_first(self, candidates: list[tree_node]) -> list[tree_node]:
        if len(candidates) < 2:
            return candidates
        ranking = rank_by_pairs(
            self.llm,
            candidates,
            task_description=self.io_func.task_description,
            functions=functions_for(self.llm, self.io_func),
            process_id=self.process_id,
        )
        self.query_count += ranking.query_count
        self.total_tokens += ranking.total_tokens
        return [candidates[position] for position in ranking.order]
