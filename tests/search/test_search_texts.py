"""Texts of the searches and of the task: the checkout's where there is one, read and never run."""

import pytest

from evaluation.toolbench.inference.Algorithms.search_prompts import SearchPrompts, search_prompts
from evaluation.toolbench.inference.Downstream_tasks.task_texts import task_texts
from tests.helpers.environment import make_env


def test_on_our_own_the_texts_have_the_slots_that_are_filled():
    own = SearchPrompts()
    assert "{task_description}" in own.format_instructions_system_function
    assert own.format_instructions_user_function == "\n{input_description}\nBegin!\n"
    assert "{previous_candidate}" in own.diversity_prompt
    for slot in ("task_description", "intersect_trice", "candidate_A", "candidate_B"):
        assert f"{{{slot}}}" in own.llm_pairwise_rank_subfix_system_prompt


def test_a_checkouts_prompts_take_their_place(tmp_path):
    (tmp_path / "Tree_search_prompts.py").write_text(
        'raise SystemExit("executed")\nDIVERSITY_PROMPT = """Not again: {previous_candidate}"""\nOTHER = 1\n',
        encoding="utf-8",
    )
    (tmp_path / "broken.py").write_text("DIVERSITY_PROMPT = (", encoding="utf-8")
    prompts = search_prompts(tmp_path)
    assert prompts.diversity_prompt == "Not again: {previous_candidate}"
    assert prompts.llm_pairwise_rank_user_prompt == SearchPrompts().llm_pairwise_rank_user_prompt


def test_a_checkouts_task_takes_its_place(tmp_path):
    source = tmp_path / "evaluation/toolbench/inference/Downstream_tasks/rapidapi.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        'raise SystemExit("executed")\n'
        "class env:\n"
        "    def __init__(self):\n"
        '        self.task_description = f"""Use tools.\nAlways."""\n'
        '        self.f = {"final_answer": {"type": "string", "description": "The end."}}\n',
        encoding="utf-8",
    )
    texts = task_texts(tmp_path)
    assert (texts.task, texts.answer_description) == ("Use tools.\nAlways.\n", "The end.")


@pytest.mark.parametrize("source", ["def (", "self.task_description = text\n"])
def test_a_checkout_without_such_texts_leaves_our_own(tmp_path, source):
    path = tmp_path / "evaluation/toolbench/inference/Downstream_tasks/rapidapi.py"
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    assert task_texts(tmp_path) == task_texts(tmp_path / "empty")


def test_the_first_message_says_what_the_tools_are(tmp_path):
    env = make_env(tmp_path)
    assert env.task_description == task_texts().task + "1.sky_watch: The sky,day by day\n"
