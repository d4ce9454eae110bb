"""The command line: ToolGen's flags with their defaults, ours beside them, and what cannot work refused at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.inference.Downstream_tasks.config import DEFAULTS, ModelConfig, RunConfig
from evaluation.toolbench.inference.Downstream_tasks.methods import CotMethod, DfsMethod, parse_method
from evaluation.toolbench.inference.Downstream_tasks.options import make_parser, parse_options
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


def test_a_memory_limit_without_a_unit_is_refused_whatever_gpus_there_are(tmp_path):
    files = {"--model_path": MODEL_DIR, "--data_dir": DATA_DIR, "--input_query_file": "q.json"}
    given = [str(word) for pair in {**files, "--output_answer_file": tmp_path}.items() for word in pair]
    with pytest.raises(ConfigError, match="'10' is not an amount of memory; write a number with its unit"):
        parse_options([*given, "--max_gpu_memory", "20GiB,10"])


@pytest.mark.parametrize(
    ("num_thread", "engine", "num_queries", "room", "conversations"),
    [
        ("auto", "generate", 100, None, 4),
        ("auto", "server", 100, None, 32),
        ("auto", "paged", 100, 57, 57),
        ("auto", "auto", 7, 57, 7),
        (64, "generate", 100, None, 64),
        (64, "paged", 100, 3, 64),  # the engine lets some wait
    ],
)
def test_auto_asks_for_as_many_conversations_as_the_engine_can_use(
    num_thread, engine, num_queries, room, conversations
):
    config = RunConfig(num_thread=num_thread, model=ModelConfig(engine=engine))
    assert config.num_conversations(num_queries, room) == conversations


def test_every_flag_has_the_default_of_the_configuration_and_comes_back_as_it_was_given():
    options = make_parser().parse_args([])
    assert vars(options) == dict(DEFAULTS)
    given = SimpleNamespace(**{**vars(options), "data_dir": "d", "tool_root_dir": "t", "seed": 7, "num_gpus": 3})
    assert RunConfig.of(given).flags() == vars(given)


def test_a_namespace_of_toolgens_own_flags_is_completed_and_left_as_it_is():
    """Programs that make a pipeline_runner themselves know nothing of our new flags."""
    given = SimpleNamespace(**{**UPSTREAM_DEFAULTS, "backbone_model": "toolgen", "tool_root_dir": "t"})
    before = dict(vars(given))
    config = RunConfig.of(given)
    assert (config.model.engine, config.model.seed, config.gpus.num_gpus) == ("auto", 42, None)
    assert (config.model.template, config.tools.tool_root_dir) == ("llama-3", "t")
    assert Path(config.tools.data_dir).is_dir()
    assert vars(given) == before


@pytest.mark.parametrize(
    ("name", "value"), [("engine", "fast"), ("method", "BFS"), ("num_gpus", 0), ("num_replicas", -1)]
)
def test_a_namespace_that_cannot_be_meant_is_refused_with_the_flag(name, value):
    with pytest.raises(ConfigError, match=f"--{name}"):
        RunConfig.of(SimpleNamespace(**{name: value}))


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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--engine", "generate"], "--kv_cache fp8 with --engine generate: .* use --engine paged"),
        (["--engine", "server"], "--kv_cache fp8 with --engine server: .*vLLM: --kv-cache-dtype fp8"),
        (["--backbone_model", "toolllama"], "--kv_cache fp8 with --backbone_model toolllama: .* leave it out"),
    ],
)
def test_a_kv_cache_in_8_bits_is_refused_in_one_line_where_there_are_no_pages(flags, said, tmp_path):
    files = {"--model_path": MODEL_DIR, "--data_dir": DATA_DIR, "--input_query_file": "q.json"}
    given = [str(word) for pair in {**files, "--output_answer_file": tmp_path}.items() for word in pair]
    given += ["--backbone_model", "toolgen_atomic", "--kv_cache", "fp8"]
    assert parse_options(given).kv_cache == "fp8"
    with pytest.raises(ConfigError, match=said) as caught:
        parse_options([*given, *flags])
    assert "\n" not in str(caught.value)
