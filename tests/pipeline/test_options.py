"""The command line: ToolGen's flags with their defaults, ours beside them, and what cannot work refused at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.Downstream_tasks.methods import CotMethod, DfsMethod, parse_method
from evaluation.toolbench.inference.Downstream_tasks.options import make_parser, num_conversations
from evaluation.toolbench.inference.errors import ConfigError

UPSTREAM_DEFAULTS = {
    "corpus_tsv_path": None,
    "retrieval_model_path": None,
    "retrieved_api_nums": 5,
    "backbone_model": "toolllama",
    "chatgpt_model": None,
    "base_url": "https://api.openai.com/v1",
    "openai_key": "",
    "model_path": "your_model_path/",
    "lora": False,
    "lora_path": "your_lora_path if lora",
    "max_observation_length": 1024,
    "max_source_sequence_length": 4096,
    "max_sequence_length": 8192,
    "single_chain_max_step": 16,
    "max_query_count": 200,
    "observ_compress_method": "truncate",
    "method": "CoT@1",
    "input_query_file": "",
    "output_answer_file": "",
    "toolbench_key": "",
    "rapidapi_key": "",
    "use_rapidapi_key": False,
    "api_customization": False,
    "num_thread": 1,
    "disable_tqdm": False,
    "overwrite": False,
    "function_provider": "truth",
    "replace_file": "",
    "indexing": "",
    "template": "",
}


def test_toolgens_flags_keep_their_defaults():
    options = vars(make_parser().parse_args([]))
    assert {name: options[name] for name in UPSTREAM_DEFAULTS} == UPSTREAM_DEFAULTS
    assert (options["max_new_tokens"], options["restrict_actions"], options["prompt_layout"]) == (
        512,
        "off",
        "upstream",
    )


def test_every_flag_is_explained():
    for action in make_parser()._actions:
        assert action.help, action.option_strings
    text = make_parser().format_help()
    assert "queries at once in each replica; auto:" in " ".join(text.split())
    assert "(default: None)" not in text


@pytest.mark.parametrize(
    ("flag", "bad"),
    [("--num_thread", "0"), ("--num_gpus", "-1"), ("--num_replicas", "none"), ("--max_new_tokens", "1.5")],
)
def test_a_number_that_is_none_is_one_line(flag, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args([flag, bad])
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert flag in line
    assert repr(bad) in line


@pytest.mark.parametrize(("text", "value"), [("", None), (" ", None), ("20GiB,10GiB", "20GiB,10GiB")])
def test_an_empty_memory_limit_is_none(text, value):
    assert make_parser().parse_args(["--max_gpu_memory", text]).max_gpu_memory == value


def test_auto_asks_for_as_many_conversations_as_the_engine_can_use():
    assert num_conversations("auto", "generate", num_queries=100) == 4
    assert num_conversations("auto", "paged", num_queries=100, room=57) == 57
    assert num_conversations("auto", "auto", num_queries=7, room=57) == 7
    assert num_conversations(64, "generate", num_queries=100) == 64
    assert num_conversations(64, "paged", num_queries=100, room=3) == 64  # the engine lets some wait


@given(st.integers(1, 99))
def test_methods_are_read_as_toolbench_writes_them(n):
    assert parse_method(f"CoT@{n}") == CotMethod(n)
    assert parse_method(f"DFS_w{n}") == DfsMethod(n, with_filter=True)
    assert parse_method(f"DFS_woFilter_w{n}") == DfsMethod(n, with_filter=False)


@pytest.mark.parametrize(
    "method", ["", "CoT", "CoT@", "CoT@0", "DFS", "DFS_w0", "DFS_w2x", "BFS", "CoT/../x@1", "UCT_vote"]
)
def test_other_methods_are_refused(method):
    with pytest.raises(ConfigError, match="unknown --method"):
        parse_method(method)


def test_abbreviations_work_as_before():
    assert make_parser().parse_args(["--num_t", "3"]).num_thread == 3
