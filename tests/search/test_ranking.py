"""Ranking by pairs: every pair in both orders, a point for a win, and what the judge is shown."""

import pytest

from evaluation.toolbench.inference.Algorithms.ranking import rank_by_pairs
from evaluation.toolbench.inference.Tree.Tree import my_tree
from tests.helpers.environment import says

METALS = ("lead", "gold", "tin")


class Judge:
    """Prefers the attempt named `best`, or answers `verdict` whatever it is shown."""

    def __init__(self, *, best="", verdict=None):
        self.best, self.verdict, self.prompts = best, verdict, []

    def change_messages(self, messages):
        self.prompts.append(messages[0]["content"])

    def parse(self, functions, process_id, function_call="auto"):
        assert function_call == "none"
        if self.verdict is not None:
            return says(self.verdict), 0, 3
        first = min((name for name in METALS if name in self.prompts[-1]), key=self.prompts[-1].index)
        return says("A" if first == self.best else "B"), 0, 3


def candidates(*descriptions):
    root = my_tree().root
    return [root.add_child("Action", name) for name in descriptions]


def rank(judge, nodes):
    return rank_by_pairs(judge, nodes, task_description="the task", functions={})


def test_the_best_wins_all_its_pairs_from_either_place():
    ranking = rank(Judge(best="gold"), candidates(*METALS))
    assert ranking.scores[1] == 2
    assert ranking.order[0] == 1
    assert (ranking.query_count, ranking.total_tokens) == (6, 18)


@pytest.mark.parametrize("verdict", ["A", "B", "perhaps", ""])
def test_a_judge_that_only_looks_at_the_place_decides_nothing(verdict):
    ranking = rank(Judge(verdict=verdict), candidates(*METALS))
    assert ranking.scores == [1, 1, 1]
    assert ranking.order == [0, 1, 2]


@pytest.mark.parametrize(
    ("verdict", "is_first"), [("A", True), ('"A".', True), ("The answer is a\n", True), ("A\r\n\t", True), ("B", False)]
)
def test_the_last_letter_is_the_verdict(verdict, is_first):
    class Constant(Judge):
        def parse(self, functions, process_id, function_call="auto"):
            flip = len(self.prompts) % 2 == 0  # the pair's second order
            return says(verdict if not flip else ("B" if is_first else "A")), 0, 1

    assert rank(Constant(), candidates("x", "y")).scores == ([1, 0] if is_first else [0, 1])


def test_the_judge_is_shown_the_task_and_each_attempt_after_what_they_share():
    root = my_tree().root
    fork = root.add_child("Thought", "shared thought")
    judge = Judge(verdict="A")
    rank(judge, [fork.add_child("Action", "left"), fork.add_child("Action", "right")])
    assert "the task" in judge.prompts[0]
    assert judge.prompts[0].count("shared thought") == 1
    assert judge.prompts[0].index("left") < judge.prompts[0].index("right")
    assert judge.prompts[1].index("right") < judge.prompts[1].index("left")
