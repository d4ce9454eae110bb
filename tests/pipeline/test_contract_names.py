"""Names and signatures that other modules of a ToolGen checkout rely on. Changing one breaks them."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest

INFERENCE = "evaluation.toolbench.inference"
FOLDER = Path(__file__).resolve().parents[2] / "evaluation/toolbench/inference"

# (module, name): leading parameters with their defaults, `...` where there is none. More may follow if they
# have defaults.
SIGNATURES = {
    ("LLM.toolgen_atomic", "ToolGenAtomic"): {
        "model_name_or_path": ...,
        "template": "llama-3",
        "device": "cuda",
        "cpu_offloading": False,
        "max_sequence_length": 8192,
        "num_gpus": 1,
        "max_gpu_memory": None,
    },
    ("LLM.toolgen", "ToolGen"): {
        "model_name_or_path": ...,
        "template": "llama-3",
        "indexing": "Semantic",
        "device": "cuda",
        "cpu_offloading": False,
        "max_sequence_length": 8192,
        "num_gpus": 1,
        "max_gpu_memory": None,
    },
    ("Algorithms.single_chain", "single_chain"): {
        "llm": ...,
        "io_func": ...,
        "extra_prefix": "",
        "process_id": 0,
        "start_message_list": None,
    },
    ("Algorithms.DFS", "DFS_tree_search"): {"llm": ..., "io_func": ..., "process_id": 0, "callbacks": None},
    ("Algorithms.base_search", "base_search_method"): {"llm": ..., "io_func": ..., "process_id": 0, "callbacks": None},
    ("Downstream_tasks.base_env", "base_env"): {},
    ("Downstream_tasks.rapidapi_multithread", "pipeline_runner"): {
        "args": ...,
        "add_retrieval": False,
        "process_id": 0,
        "server": False,
    },
    ("Downstream_tasks.rapidapi_multithread", "rapidapi_wrapper"): {
        "query_json": ...,
        "tool_descriptions": ...,
        "function_provider": ...,
        "tool_package": ...,
        "retriever": ...,
        "args": ...,
        "process_id": 0,
    },
    ("Downstream_tasks.rapidapi_multithread", "get_white_list"): None,
    ("Downstream_tasks.rapidapi_multithread", "contain"): None,
    ("Downstream_tasks.rapidapi_multithread", "fetch_api_json_from_tool"): None,
    ("Downstream_tasks.rapidapi_multithread", "api_json_to_openai_json"): None,
    ("Tree.Tree", "my_tree"): {},
    ("Tree.Tree", "tree_node"): None,
    ("server", "get_rapidapi_response"): {
        "input_dict": ...,
        "api_customization": False,
        "tools_root": "data.toolenv.tools",
        "schema_root": "data/toolenv/response_examples",
    },
}

_PHASE = {"conv": ..., "roles": ...}
METHODS = {
    "initialize": {},
    "change_messages": {"messages": ...},
    "add_message": {"message": ...},
    "display_conversation": {"detailed": False},
    "generate": {
        "text": ...,
        "do_sample": ...,
        "temperature": 0.6,
        "restrict_actions": False,
        "allowed_action_ids": None,
    },
    "get_token_ids_by_actions": {"tools": ...},
    "get_relevant_actions": {"conversation_gpt": ...},
    "convert_conversation_history_to_gpt_format": {"tools": ..., "add_retrieval": False},
    "convert_to_fastchat_format": {"tools": ..., "conversation_gpt": ..., "add_relevant_tokens": ...},
    "planning": {"tools": ..., **_PHASE, "planning": ..., "add_planning_prefix": False, "temperature": 0.1},
    "acting": {
        "tools": ...,
        **_PHASE,
        "restrict_to_ground_truth_tools": ...,
        "restrict_actions": ...,
        "temperature": 0.1,
    },
    "calling": {
        "action": ...,
        "roles": ...,
        "conv": ...,
        "process_id": ...,
        "print_prompt": False,
        "temperature": 0.1,
    },
}
PARSE_DEFAULTS = {
    "planning": True,
    "temperature": 0.0,
    "add_retrieval": False,
    "restrict_actions": False,
    "restrict_to_ground_truth_tools": False,
    "add_planning_prefix": False,
    "add_relevant_tokens": False,
    "do_retry": False,
    "retry_action": False,
    "retry_give_up": True,
    "retry_sorry": True,
    "print_prompt": False,
}
AGENTS = [("LLM.toolgen_atomic", "ToolGenAtomic"), ("LLM.toolgen", "ToolGen")]


def load(module, name):
    return getattr(importlib.import_module(f"{INFERENCE}.{module}"), name)


def parameters(function):
    """Name -> default, `...` for none; without self."""
    found = inspect.signature(function).parameters.values()
    return {p.name: ... if p.default is p.empty else p.default for p in found if p.name != "self"}


def assert_begins_with(function, expected):
    found = parameters(function)
    assert list(found.items())[: len(expected)] == list(expected.items())
    kinds = inspect.signature(function).parameters
    more = [name for name in found if name not in expected and kinds[name].kind is not inspect.Parameter.VAR_KEYWORD]
    assert [name for name in more if found[name] is ...] == []


@pytest.mark.parametrize(("module", "name"), SIGNATURES, ids=lambda part: part)
def test_what_other_modules_import_is_there(module, name):
    found, expected = load(module, name), SIGNATURES[module, name]
    if expected is not None:
        assert_begins_with(found, expected)


@pytest.mark.parametrize(("module", "name"), AGENTS, ids=lambda part: part)
@pytest.mark.parametrize("method", METHODS)
def test_methods_of_the_agents_take_what_they_took(module, name, method):
    assert_begins_with(getattr(load(module, name), method), METHODS[method])


@pytest.mark.parametrize(("module", "name"), AGENTS, ids=lambda part: part)
def test_parse_takes_what_it_took_and_what_a_ranking_gives(module, name):
    found = parameters(load(module, name).parse)
    assert list(found)[:2] == ["process_id", "tools"]
    assert list(found.items())[2:14] == list(PARSE_DEFAULTS.items())
    assert list(found)[14:] == ["functions", "function_call"]


@pytest.mark.parametrize("folder", [".", "LLM", "Algorithms", "Tree", "Downstream_tasks", "..", "../tooleval"])
def test_folders_that_a_checkout_has_stay_namespace_packages(folder):
    assert not (FOLDER / folder / "__init__.py").exists()


def test_a_tree_can_be_imported_by_the_short_path_of_the_checkout(monkeypatch):
    """Modules of a checkout import `Tree.Tree`: the pipeline is run as a script, from its own folder."""
    monkeypatch.syspath_prepend(FOLDER)
    try:
        short = importlib.import_module("Tree.Tree")
    finally:
        for name in ("Tree", "Tree.Tree"):  # a test that comes later imports neither
            sys.modules.pop(name, None)
    assert parameters(short.tree_node) == parameters(load("Tree.Tree", "tree_node"))
