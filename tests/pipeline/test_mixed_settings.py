"""A folder holds the answers of one experiment: a run with other settings is refused there, and says which."""

from __future__ import annotations

import json
import shutil

import pytest

from evaluation.toolbench.inference.Downstream_tasks.answer_settings import DECISIVE, INDIFFERENT, answer_settings
from evaluation.toolbench.inference.Downstream_tasks.config import DEFAULTS, RunConfig
from evaluation.toolbench.inference.Downstream_tasks.options import make_parser
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.checkpoint_identity import checkpoint_identity
from evaluation.toolbench.inference.records.run_record import RUN_FILE, read_run_record
from tests.helpers.environment import ANSWER, ScriptedToolGen, calls
from tests.helpers.pipeline import CITIES, World, contents, query


class Answers(ScriptedToolGen):
    """Answers at once; can be told to fail where a city is named."""

    def __init__(self, failing: str = "nowhere") -> None:
        super().__init__()
        self.failing = failing

    def parse(self, process_id, tools=None, **_):
        assert self.failing not in self.messages[1]["content"]
        return calls("Finish", ANSWER, "Done."), 0, 5


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "run1/final"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights of run 1")
    return folder


@pytest.fixture
def run(runner_of, model_folder):
    """One query, Oslo's, is left by a first run; a second one with other flags."""
    runner_of(Answers(failing="Oslo"), model_path=model_folder).run()

    def run(**changes):
        return runner_of(Answers(), **{"model_path": model_folder, **changes}).run()

    return run


OTHER_SETTINGS = {
    "method": ("CoT@2", "method: CoT@1 -> CoT@2"),
    "prompt_layout": ("trained", "prompt_layout: upstream -> trained"),
    "template": ("qwen-7b-chat", "template: llama-3 -> qwen-7b-chat"),
    "restrict_actions": ("off", "restrict_actions: all -> off"),
    "seed": (7, "seed: 42 -> 7"),
    "dtype": ("bfloat16", "dtype: float32 -> bfloat16"),
    "weights": ("int8", "weights: auto -> int8"),
    "kv_cache": ("fp8", "kv_cache: auto -> fp8"),
    "generation_config": ("ignore", "generation_config: checkpoint -> ignore"),
    "max_new_tokens": (64, "max_new_tokens: 12 -> 64"),
    "max_sequence_length": (512, "max_sequence_length: 8192 -> 512"),
    "function_provider": ("truth", "function_provider: all -> truth"),
    "max_observation_length": (99, "max_observation_length: 1024 -> 99"),
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_a_resume_with_another_setting_is_refused_with_the_old_and_the_new_value(run, tmp_path, name):
    value, told = OTHER_SETTINGS[name]
    before = contents(tmp_path / "answers")
    with pytest.raises(ConfigError) as refused:
        run(**{name: value})
    assert refused.value.details["differences"] == [told]
    assert all(remedy in str(refused.value) for remedy in ("OUTPUT_DIR", "--overwrite", "--mix_settings"))
    assert contents(tmp_path / "answers") == before
    assert run().exit_code == 0


def test_all_differences_are_told_at_once(run):
    with pytest.raises(ConfigError, match=r"\(seed: 42 -> 7; max_new_tokens: 12 -> 64\)"):
        run(seed=7, max_new_tokens=64)


def test_another_checkpoint_of_the_same_name_is_refused_also_where_nothing_is_left_to_run(run, tmp_path, model_folder):
    assert run().exit_code == 0
    other = shutil.copytree(model_folder, tmp_path / "run2/final")
    (other / "model.safetensors").write_bytes(b"weights of run 2")
    with pytest.raises(ConfigError, match=rf"checkpoint: {model_folder} \(\w+\) -> {other} \(\w+\)"):
        run(model_path=other)


def test_the_same_checkpoint_in_another_place_goes_on(run, tmp_path, model_folder):
    assert run(model_path=shutil.copytree(model_folder, tmp_path / "moved")).exit_code == 0


def test_other_query_texts_are_refused_and_other_choices_of_queries_are_not(run, world, tmp_path):
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps([{"id": str(i), "query": "Is it windy?"} for i in (0, 1, 2)]))
    with pytest.raises(ConfigError, match=r"\(texts of the queries 0, 2\)"):  # 1, Oslo, has no answer yet
        run(replace_file=texts)
    assert run(limit=3).num_queries == 3
    more = world.write_queries(tmp_path / "more.json", [query(i) for i in range(len(CITIES))] + [query(0, query_id=99)])
    assert run(input_query_file=more).now.answered == 1


@pytest.mark.parametrize("changed", ["system_prompt_file", "tools"])
def test_other_texts_behind_the_same_flags_are_refused(run, world, tmp_path, changed):
    (tmp_path / "prompt.txt").write_text("Help. {finish}")
    if changed == "tools":
        path = world.data / "toolenv/tools/tools.json"
        path.write_text(path.read_text().replace("Daily", "Weekly"))
    flags = {} if changed == "tools" else {"system_prompt_file": tmp_path / "prompt.txt"}
    with pytest.raises(ConfigError, match=rf"\({changed.removesuffix('_file')}: \w+ -> \w+\)"):
        run(**flags)


def test_how_fast_and_where_it_runs_may_change(run):
    assert run(num_thread=4, query_timeout=99, engine="generate", disable_tqdm=True).exit_code == 0


def test_mix_settings_goes_on_and_says_so_for_good(run, tmp_path):
    assert run(seed=7, mix_settings=True, limit=2).exit_code == 0
    assert run(seed=7).exit_code == 0
    record = read_run_record(tmp_path / "answers")
    assert (record.settings["seed"], record.mixed_settings) == (7, ["seed: 42 -> 7"])


def test_overwrite_replaces_the_answers_and_their_settings(run, tmp_path):
    assert run(seed=7, overwrite=True).now.answered == len(CITIES)
    record = read_run_record(tmp_path / "answers")
    assert (record.settings["seed"], record.mixed_settings) == (7, [])
    assert run(seed=8, overwrite=True, limit=1).now.answered == 1
    assert read_run_record(tmp_path / "answers").mixed_settings == ["seed: 7 -> 8"]  # for the answers that stayed


def test_an_overwriting_run_that_ends_before_it_has_loaded_leaves_the_answers_and_what_they_were_made_with(
    run, runner_of, tmp_path, model_folder
):
    """The first removes the old answers when its replica is ready, and not before."""
    runner = runner_of(Answers(), model_path=model_folder, seed=7, overwrite=True, function_provider="all")
    before = contents(tmp_path / "answers")
    (model_folder.parent.parent / "data/toolenv/tools/tools.json").unlink()
    with pytest.raises(Exception, match=r"tools\.json"):
        runner.run()
    assert contents(tmp_path / "answers") == before
    assert read_run_record(tmp_path / "answers").settings["seed"] == 42


@pytest.mark.parametrize("left", ["no record", "a record of an earlier version", "a broken record"])
def test_folders_of_earlier_versions_go_on_with_a_note(run, tmp_path, caplog, left):
    path = tmp_path / "answers" / RUN_FILE
    record = json.loads(path.read_text())
    del record["settings"], record["mixed_settings"]
    path.unlink()
    if left != "no record":
        path.write_text(json.dumps(record) if left.startswith("a record") else "{")
    assert run(seed=7).exit_code == 0
    assert f"has {len(CITIES) - 1} answers without a record of their settings" in caplog.text


def test_a_folder_without_answers_takes_any_settings(runner_of, model_folder):
    runner_of(Answers(failing="it"), model_path=model_folder).run()
    assert runner_of(Answers(), model_path=model_folder, seed=7).run().exit_code == 0


def test_every_flag_either_decides_answers_or_does_not():
    assert sorted((*DECISIVE, *INDIFFERENT)) == sorted(DEFAULTS)


def test_what_cannot_be_told_is_not_compared(tmp_path):
    flags = World(tmp_path).flags(tmp_path / "answers", data_dir=tmp_path, model_path="an/unknown-model")
    settings = answer_settings(RunConfig.of(make_parser().parse_args(flags)))
    assert (settings["checkpoint"], settings["tools"]) == (None, None)


def test_a_checkpoint_is_known_by_its_content(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100_000))
    first = checkpoint_identity(folder)
    (folder / "notes.md").touch()
    assert checkpoint_identity(shutil.copytree(folder, tmp_path / "b")) == first
    for name, content in [("config.json", "[]"), ("model.safetensors", "x" * 100_000), ("tokenizer.json", "{}")]:
        other = shutil.copytree(folder, tmp_path / f"other {name}")
        (other / name).write_text(content)
        assert checkpoint_identity(other) != first
    monkeypatch.setattr("evaluation.toolbench.inference.multi_gpu.checkpoint_identity._WHOLE_BYTES", 1000)
    sampled = checkpoint_identity(folder)
    content = bytearray(100_000)
    content[-1] = 1
    (folder / "model.safetensors").write_bytes(content)
    assert checkpoint_identity(folder) != sampled
