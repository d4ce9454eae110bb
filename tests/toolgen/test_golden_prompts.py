"""What the model reads, token for token, in both templates and for every option that changes it."""

import itertools
import json

import pytest

from evaluation.toolbench.inference.toolgen.prompts import OWN_FINISH_DESCRIPTION, OWN_SYSTEM_PROMPT
from tests.helpers.toolgen import NAMES, SKY_WATCH, first_messages, scripted_agent, shared_tokenizer, write_data_folder

SYSTEM = OWN_SYSTEM_PROMPT.replace("{finish}", "<<Finish>>")
THOUGHT = "I should look up the forecast for Paris."
ARGUMENTS = '{"city": "Paris", "days": 1}'
OBSERVATION = """{"error": "", "response": "{'city': 'Paris', 'sky': 'sunny'}"}"""
SKY_WATCH_DOCUMENTATION = (
    "Please give the input. Here is the documentation: {'name': '<<Sky Watch&&Daily Forecast>>', 'description': "
    "'Daily Forecast for one city.', 'required': [{'name': 'city', 'type': 'STRING', 'description': 'City name', "
    "'default': 'Paris'}], 'optional': [{'name': 'days', 'type': 'NUMBER', 'description': 'How many days', 'default': "
    "3}, {'name': 'Is Metric?', 'type': 'BOOLEAN', 'description': 'Units', 'default': ''}]}"
)
FINISH_DOCUMENTATION = (
    f"Please give the input. Here is the documentation: {{'description': '{OWN_FINISH_DESCRIPTION}', 'required': [], "
    "'optional': [{'name': 'give_answer', 'description': 'Output the answer', 'type': 'string'}, {'name': "
    "'give_up_and_restart', 'description': 'Unable to handle the task from this step', 'type': 'string'}]}"
)

LLAMA_USER = "<|start_header_id|>user<|end_header_id|>\n\n"
LLAMA_ASSISTANT = "<|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA_START = (
    # The tokenizer's own BOS in front of the template's: what the checkpoints were trained with.
    f"<|begin_of_text|><|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM}<|eot_id|>"
    f"{LLAMA_USER}Will it be sunny in Paris tomorrow?\nBegin!<|eot_id|>"
)
LLAMA_PLANNING = LLAMA_START + LLAMA_ASSISTANT
LLAMA_ACTING = f"{LLAMA_PLANNING}{THOUGHT}<|eot_id|>{LLAMA_USER}Generate the action.<|eot_id|>{LLAMA_ASSISTANT}"
LLAMA_CALLING = (
    f"{LLAMA_ACTING}{SKY_WATCH}<|eot_id|>{LLAMA_ASSISTANT}{SKY_WATCH_DOCUMENTATION}<|eot_id|>{LLAMA_ASSISTANT}"
)
LLAMA_PLANNING_2 = (
    f"{LLAMA_PLANNING}{THOUGHT}<|eot_id|>{LLAMA_USER}Please generate the action.<|eot_id|>{LLAMA_ASSISTANT}"
    f"{SKY_WATCH}<|eot_id|>{LLAMA_USER}{SKY_WATCH_DOCUMENTATION}<|eot_id|>{LLAMA_ASSISTANT}"
    f"{ARGUMENTS}<|eot_id|>{LLAMA_USER}{OBSERVATION}<|eot_id|>{LLAMA_ASSISTANT}"
)
LLAMA_ACTING_2 = f"{LLAMA_PLANNING_2}Done.<|eot_id|>{LLAMA_USER}Generate the action.<|eot_id|>{LLAMA_ASSISTANT}"
LLAMA_CALLING_2 = (
    f"{LLAMA_ACTING_2}<<Finish>><|eot_id|>{LLAMA_ASSISTANT}{FINISH_DOCUMENTATION}<|eot_id|>{LLAMA_ASSISTANT}"
)

QWEN_START = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    "<|im_start|>user\n\nWill it be sunny in Paris tomorrow?\nBegin!\n<|im_end|>\n"
)
QWEN_PLANNING = f"{QWEN_START}<|im_start|>assistant\n"
QWEN_ACTING = (
    f"{QWEN_PLANNING}{THOUGHT}<|im_end|>\n<|im_start|>user\nGenerate the action.<|im_end|>\n<|im_start|>assistant\n"
)
QWEN_CALLING = (
    f"{QWEN_ACTING}{SKY_WATCH}<|im_end|>\n<|im_start|>assistant\n{SKY_WATCH_DOCUMENTATION}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
QWEN_PLANNING_2 = (
    f"{QWEN_PLANNING}{THOUGHT}<|im_end|>\n<|im_start|>user\nPlease generate the action.<|im_end|>\n"
    f"<|im_start|>assistant\n{SKY_WATCH}<|im_end|>\n<|im_start|>user\n{SKY_WATCH_DOCUMENTATION}<|im_end|>\n"
    f"<|im_start|>assistant\n{ARGUMENTS}<|im_end|>\n<|im_start|>user\n{OBSERVATION}<|im_end|>\n<|im_start|>assistant\n"
)
QWEN_ACTING_2 = (
    f"{QWEN_PLANNING_2}Done.<|im_end|>\n<|im_start|>user\nGenerate the action.<|im_end|>\n<|im_start|>assistant\n"
)
QWEN_CALLING_2 = (
    f"{QWEN_ACTING_2}<<Finish>><|im_end|>\n<|im_start|>assistant\n{FINISH_DOCUMENTATION}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
GOLDEN = {
    "llama-3": [LLAMA_PLANNING, LLAMA_ACTING, LLAMA_CALLING, LLAMA_PLANNING_2, LLAMA_ACTING_2, LLAMA_CALLING_2],
    "qwen-7b-chat": [QWEN_PLANNING, QWEN_ACTING, QWEN_CALLING, QWEN_PLANNING_2, QWEN_ACTING_2, QWEN_CALLING_2],
}
TWO_STEPS = [THOUGHT, SKY_WATCH, ARGUMENTS, "Done.", "<<Finish>>", "{}"]


@pytest.fixture
def data_dir(tmp_path):
    return write_data_folder(tmp_path / "data")


def run_two_steps(agent, **how):
    messages = first_messages()
    agent.change_messages(messages)
    message, _, _ = agent.parse(tools={NAMES[0]: {}}, process_id=1, **how)
    name = message["tool_calls"][0]["function"]["name"]
    messages += [message, {"role": "tool", "name": name, "content": OBSERVATION, "tool_call_id": None}]
    agent.parse(tools={NAMES[0]: {}}, process_id=1, **how)


@pytest.mark.parametrize("template", GOLDEN)
def test_two_steps_read_as_upstream_wrote_them(data_dir, template):
    agent, engine = scripted_agent(data_dir, TWO_STEPS, template=template)
    run_two_steps(agent)
    assert engine.prompts() == GOLDEN[template]


@pytest.mark.parametrize("template", GOLDEN)
def test_prompt_ids_are_those_of_the_whole_text_tokenized_at_once(data_dir, template):
    agent, engine = scripted_agent(data_dir, TWO_STEPS, template=template)
    run_two_steps(agent)
    tokenizer = shared_tokenizer("llama-3" if template == "llama-3" else "qwen")
    whole = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in GOLDEN[template]]
    assert [list(request.prompt_ids) for request in engine.requests] == whole


def test_an_action_that_does_not_exist_is_history_as_an_invalid_one(data_dir):
    agent, engine = scripted_agent(data_dir, ["Next."] * 3)
    observation = '{"error": "No such function name: <<Coffee Shop&&Search>>", "response": ""}'
    function = {"name": "invalid_hallucination_function_name", "arguments": "{}"}
    agent.change_messages(
        [
            *first_messages(),
            {"role": "assistant", "content": "Coffee.", "tool_calls": [{"function": function}]},
            {"role": "tool", "name": "<<Coffee Shop&&Search>>", "content": observation},
        ]
    )
    agent.parse(tools={}, process_id=0)
    assert engine.prompts()[0] == (
        f"{LLAMA_PLANNING}Coffee.<|eot_id|>{LLAMA_USER}Please generate the action.<|eot_id|>{LLAMA_ASSISTANT}"
        f"Invalid Action<|eot_id|>{LLAMA_USER}Please give the input. Here is the documentation: "
        f"No documentation, try again.<|eot_id|>{LLAMA_ASSISTANT}"
        f"{{}}<|eot_id|>{LLAMA_USER}{observation}<|eot_id|>{LLAMA_ASSISTANT}"
    )


def test_retrieval_shows_the_actions_and_their_descriptions_after_the_question(data_dir):
    agent, engine = scripted_agent(data_dir, ["Next."] * 3)
    agent.change_messages(first_messages())
    agent.parse(tools={NAMES[0]: {}}, process_id=0, add_retrieval=True)
    descriptions = json.dumps(
        [
            {"name": SKY_WATCH, "description": "Daily Forecast for one city."},
            {"name": "<<Finish>>", "description": OWN_FINISH_DESCRIPTION},
        ]
    )
    assert engine.prompts()[0] == (
        f"{LLAMA_START}{LLAMA_USER}Please generate relevant actions.<|eot_id|>"
        f"{LLAMA_ASSISTANT}{SKY_WATCH}<<Finish>><|eot_id|>"
        f"{LLAMA_USER}Here are descriptions: {descriptions}<|eot_id|>{LLAMA_ASSISTANT}"
    )


def test_a_planning_prefix_begins_the_thought(data_dir):
    agent, engine = scripted_agent(data_dir, ["So.", "<<Finish>>", "{}"])
    agent.change_messages(first_messages())
    message, _, _ = agent.parse(tools={NAMES[0]: {}}, process_id=0, add_planning_prefix=True)
    prefix = "I am using one of the following tools: ['<<Sky Watch&&Daily Forecast>>', '<<Finish>>']."
    assert engine.prompts()[0] == LLAMA_PLANNING + prefix
    assert message["content"] == f"{prefix} So."


def test_relevant_tokens_are_listed_in_the_system_prompt(data_dir):
    agent, engine = scripted_agent(data_dir, ["So.", "<<Finish>>", "{}"])
    agent.change_messages(first_messages())
    agent.parse(tools={NAMES[0]: {}}, process_id=0, add_relevant_tokens=True)
    assert "['<<Sky Watch&&Daily Forecast>>', '<<Finish>>']<|eot_id|>" in engine.prompts()[0]
    assert "{finish}" not in engine.prompts()[0]


@pytest.mark.parametrize("template", GOLDEN)
def test_in_the_trained_layout_every_prompt_is_a_prefix_of_the_next(data_dir, template):
    agent, engine = scripted_agent(data_dir, TWO_STEPS, template=template, prompt_layout="trained")
    run_two_steps(agent)
    prompts = [list(request.prompt_ids) for request in engine.requests]
    assert len(prompts) == 6
    for prompt, longer in itertools.pairwise(prompts):
        assert longer[: len(prompt)] == prompt


def test_the_trained_layout_has_one_hint_and_the_user_shows_the_documentation(data_dir):
    agent, engine = scripted_agent(data_dir, TWO_STEPS, prompt_layout="trained")
    run_two_steps(agent)
    last = engine.prompts()[-1]
    assert last.count(f"{LLAMA_USER}Generate the action.<|eot_id|>") == 2
    assert "Please generate the action." not in last
    assert f"{LLAMA_USER}{FINISH_DOCUMENTATION}<|eot_id|>" in last


def test_messages_marked_as_not_valid_are_sent_like_any_other(data_dir):
    agent, engine = scripted_agent(data_dir, ["Next."] * 3)
    agent.change_messages([*first_messages(), {"role": "user", "content": "Try another way.", "valid": False}])
    agent.parse(tools={}, process_id=0)
    assert f"{LLAMA_USER}Try another way.<|eot_id|>{LLAMA_ASSISTANT}" in engine.prompts()[0]


def test_a_plain_reply_reads_the_messages_as_they_are(data_dir):
    agent, engine = scripted_agent(data_dir, ["Reply: a"])
    agent.change_messages([{"role": "system", "content": "Compare."}, {"role": "user", "content": "a or b?"}])
    message, code, _ = agent.parse(functions={NAMES[0]: {}}, function_call="none", process_id=0)
    assert engine.prompts() == [
        "<|begin_of_text|><|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCompare.<|eot_id|>"
        f"{LLAMA_USER}a or b?<|eot_id|>{LLAMA_ASSISTANT}"
    ]
    assert (message["content"], message["tool_calls"], code) == ("Reply: a", None, 0)
