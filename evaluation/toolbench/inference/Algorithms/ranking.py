"""Finds the best of several unfinished attempts: a model compares them in pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from evaluation.toolbench.inference.Algorithms.llm_calls import LanguageModel, ask_text
from evaluation.toolbench.inference.Algorithms.search_prompts import search_prompts
from evaluation.toolbench.inference.Tree.base_env import FunctionJson
from evaluation.toolbench.inference.Tree.Tree import tree_node

_VERDICT_A = re.compile(r"""a[\s."']*\Z""", re.IGNORECASE)


@dataclass(frozen=True)
class Ranking:
    """`order` has the positions of the candidates, best first; equal scores keep their order."""

    scores: list[float]
    query_count: int
    total_tokens: int

    @property
    def order(self) -> list[int]:
        return sorted(range(len(self.scores)), key=lambda position: -self.scores[position])


def rank_by_pairs(
    llm: LanguageModel,
    candidates: Sequence[tree_node],
    *,
    task_description: str,
    functions: dict[str, FunctionJson],
    process_id: int = 0,
) -> Ranking:
    """Compare every pair in both orders, since models favour a position: 1 point, or half a point each."""
    scores = [0.0] * len(candidates)
    query_count = total_tokens = 0
    for a, b in combinations(range(len(candidates)), 2):
        wins_of_a = 0
        for first, second in ((a, b), (b, a)):
            first_wins, tokens = _prefers_first(
                llm, candidates[first], candidates[second], task_description, functions, process_id
            )
            wins_of_a += first_wins == (first == a)
            query_count += 1
            total_tokens += tokens
        scores[a] += wins_of_a / 2
        scores[b] += 1 - wins_of_a / 2
    return Ranking(scores, query_count, total_tokens)


def _prefers_first(
    llm: LanguageModel,
    first: tree_node,
    second: tree_node,
    task_description: str,
    functions: dict[str, FunctionJson],
    process_id: int,
) -> tuple[bool, int]:
    """Return whether the answer ends in the letter A, and the tokens it took. Anything else means the second."""
    prompts = search_prompts()
    common = tree_node.find_ancestor_intersection(first, second)
    slots = {
        "{task_description}": task_description,
        "{intersect_trice}": common.get_former_trice_from_this_node(),
        "{candidate_A}": first.get_former_trice_from_this_node(end_node=common),
        "{candidate_B}": second.get_former_trice_from_this_node(end_node=common),
    }
    system = prompts.llm_pairwise_rank_subfix_system_prompt
    for slot, text in slots.items():
        system = system.replace(slot, text)
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": prompts.llm_pairwise_rank_user_prompt},
    ]
    message, _, tokens = ask_text(llm, messages, functions, process_id)
    return _VERDICT_A.search(message.get("content") or "") is not None, tokens
