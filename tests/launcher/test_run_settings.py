"""What the environment's variables make of a tree: demo, checkout, or a model of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.toolbench.inference.Downstream_tasks.options import make_parser
from evaluation.toolbench.inference.Downstream_tasks.query_sets import SETS
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.launcher.run import SHOWN_DEFAULTS, sets_of
from evaluation.toolbench.launcher.run_settings import (
    PUBLISHED_MODEL,
    one_checkpoint_each,
    pipeline_flags,
    settings_of,
)


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "data/solvable_queries/test_instruction").mkdir(parents=True)
    for name in SETS:
        (tmp_path / f"data/solvable_queries/test_instruction/{name}.json").write_text("[]")
    return tmp_path


def flags_of(root: Path, **environment: str) -> dict[str, str]:
    settings = settings_of(environment, root)
    return dict(flag.split("=", 1) for flag in pipeline_flags(settings, environment, settings.query_sets))


def test_a_tree_by_itself_runs_the_demo(tmp_path):
    settings = settings_of({}, tmp_path)
    demo = tmp_path / "evaluation/toolbench/demo"
    assert settings.is_demo
    assert (settings.model_path, settings.data_dir) == (str(demo / "model"), demo / "assets")
    assert settings.answers(*settings.query_sets) == tmp_path / "outputs/demo/demo_queries"


def test_the_defaults_that_help_shows_are_those_of_a_run_without_variables(tmp_path):
    flags = flags_of(tmp_path)
    for name in SHOWN_DEFAULTS.keys() - {"model_path"}:
        assert SHOWN_DEFAULTS[name] == flags[f"--{name}"]


def test_naming_the_demos_model_is_the_demo_too(tmp_path):
    assert settings_of({"MODEL_PATH": str(tmp_path / "evaluation/toolbench/demo/model")}, tmp_path).is_demo


def test_a_checkout_runs_its_data_with_the_published_model(checkout):
    settings = settings_of({}, checkout)
    assert not settings.is_demo
    assert (settings.model_path, settings.data_dir) == (PUBLISHED_MODEL, checkout / "data")
    assert settings.answers(*settings.query_sets) == checkout / "data/answer/ToolGen-Llama-3-8B/G3_instruction"


@pytest.mark.parametrize(
    ("model_path", "name"),
    [
        ("/runs/run1/final", "run1-final"),
        ("/runs/run2/final/", "run2-final"),
        ("run1/checkpoint-1000", "run1-checkpoint-1000"),
        ("run1/global_step2000/hf", "run1-global_step2000-hf"),
        ("run1/epoch_3/merged_model", "run1-epoch_3-merged_model"),
        ("/models/model", "models-model"),
        ("/final", "final"),
        ("/cache/models--org--toolgen/snapshots/" + "0f" * 20, "models--org--toolgen-snapshots-" + "0f" * 20),
        ("/models/toolgen-final", "toolgen-final"),
        ("org/toolgen", "toolgen"),
        ("org/final", "org-final"),
    ],
)
def test_two_checkpoints_whose_folders_end_in_the_same_word_have_folders_of_their_own(checkout, model_path, name):
    settings = settings_of({"MODEL_PATH": model_path}, checkout)
    assert settings.output_dir == checkout / "data/answer" / name


def test_a_checkpoint_named_from_the_folder_that_it_lies_in_is_named_after_that(checkout, tmp_path, monkeypatch):
    folder = tmp_path / "run7/final"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert settings_of({"MODEL_PATH": "."}, checkout).output_dir.name == "run7-final"


def test_variables_that_are_empty_are_not_set(checkout):
    assert flags_of(checkout, MODEL_PATH="", ENGINE="", STAGE="", NUM_THREAD="") == flags_of(checkout)


def test_every_variable_becomes_its_flag(tmp_path):
    flags = flags_of(
        tmp_path,
        MODEL_PATH="/models/my model/",
        DATA_DIR="/my data",
        OUTPUT_DIR="/out",
        STAGE="G1",
        GROUP="tool",
        INDEXING="Numeric",
        METHOD="DFS_woFilter_w2",
        NUM_REPLICAS="2",
        MAX_GPU_MEMORY="20GiB",
        ENGINE="server",
        ENGINE_URL="http://localhost:8000/v1",
    )
    assert flags["--model_path"] == "/models/my model/"
    assert flags["--input_query_file"] == "/my data/solvable_queries/test_instruction/G1_tool.json"
    assert flags["--output_answer_file"] == "/out/G1_tool"
    assert flags["--backbone_model"] == "toolgen"
    assert flags["--method"] == "DFS_woFilter_w2"
    assert (flags["--num_thread"], flags["--num_replicas"]) == ("auto", "2")
    assert flags["--max_gpu_memory"] == "20GiB"
    assert (flags["--engine"], flags["--engine_url"]) == ("server", "http://localhost:8000/v1")


def test_all_sets_are_the_papers_and_a_set_without_a_file_is_named(checkout):
    settings = settings_of({}, checkout)
    assert sets_of(["--sets", "all", "--seed", "1"], settings) == (list(SETS), ["--seed", "1"])
    assert sets_of(["--sets=G1_tool,G2_category"], settings) == (["G1_tool", "G2_category"], [])
    assert sets_of([], settings) == (["G3_instruction"], [])
    with pytest.raises(ConfigError, match=r"no G9_tool in .* which has G1_category, G1_instruction"):
        sets_of(["--sets", "G1_tool,G9_tool"], settings)


@pytest.mark.parametrize(
    ("stage", "group", "sets"),
    [
        ("all", "", SETS),
        ("all", "instruction", ("G1_instruction", "G2_instruction", "G3_instruction")),
        ("G1, G3", "instruction tool", ("G1_instruction", "G1_tool", "G3_instruction")),
        ("G2", "all", ("G2_instruction", "G2_category")),
        ("", "", ("G3_instruction",)),
        ("G9", "tool", ("G9_tool",)),  # the pipeline says that its file is not there
    ],
)
def test_stages_and_groups_name_the_sets_that_there_are(checkout, stage, group, sets):
    assert settings_of({"STAGE": stage, "GROUP": group}, checkout).query_sets == sets


def test_stages_without_any_set_are_refused(checkout):
    with pytest.raises(ConfigError, match="no G8_tool, G9_tool in"):
        settings_of({"STAGE": "G8 G9", "GROUP": "tool"}, checkout)


def test_many_sets_and_methods_are_one_command_line_for_the_pipeline(checkout):
    environment = {"METHOD": "CoT@1 DFS_woFilter_w2", "OUTPUT_DIR": "/out"}
    settings = settings_of(environment, checkout)
    options = make_parser().parse_args(pipeline_flags(settings, environment, ["G1_tool", "G2_category"]))
    folder = checkout / "data/solvable_queries/test_instruction"
    assert options.input_query_file == [str(folder / "G1_tool.json"), str(folder / "G2_category.json")]
    assert (options.output_answer_file, options.method) == ("/out", ["CoT@1", "DFS_woFilter_w2"])


def test_several_checkpoints_have_an_environment_and_a_folder_each(checkout):
    environment = {"MODEL_PATH": "a/one, b/two", "INDEXING": "Atomic Numeric", "SERVICE_URL": "http://here"}
    first, second = one_checkpoint_each(environment, checkout)
    assert (first["MODEL_PATH"], first["INDEXING"], first["SERVICE_URL"]) == ("a/one", "Atomic", "http://here")
    assert (second["MODEL_PATH"], second["INDEXING"]) == ("b/two", "Numeric")
    assert settings_of(first, checkout).answers("G1_tool") == checkout / "data/answer/one/G1_tool"
    assert settings_of(second, checkout).answers("G1_tool") == checkout / "data/answer/two/G1_tool"


def test_checkpoints_of_one_name_get_folders_apart(checkout):
    folders = [each["OUTPUT_DIR"] for each in one_checkpoint_each({"MODEL_PATH": "run1/final,run2/final"}, checkout)]
    assert folders == [str(checkout / "data/answer/run1-final"), str(checkout / "data/answer/run2-final")]
    with pytest.raises(ConfigError, match="share a folder of answers"):
        one_checkpoint_each({"MODEL_PATH": "x/run,y/run"}, checkout)


def test_one_checkpoint_leaves_the_environment_as_it_is(checkout):
    with_comma = checkout / "one, two"
    with_comma.mkdir()
    for path in ("", "/models/my model", str(with_comma)):
        assert one_checkpoint_each({"MODEL_PATH": path}, checkout) == [{"MODEL_PATH": path}]


def test_indexings_that_match_no_checkpoint_are_refused(checkout):
    with pytest.raises(ConfigError, match="INDEXING=a b c: give one for all 2 checkpoints"):
        one_checkpoint_each({"MODEL_PATH": "one,two", "INDEXING": "a b c"}, checkout)


def test_an_installed_package_answers_into_its_users_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = settings_of({}, tmp_path / "site-packages")
    assert settings.is_demo
    assert settings.model_path == str(tmp_path / "site-packages/evaluation/toolbench/demo/model")
    assert settings.output_dir == tmp_path / "outputs/demo"
