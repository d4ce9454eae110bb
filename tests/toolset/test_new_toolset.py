"""A tool set of one's own, from tool files and a base model to a run; the demo's tools are the example."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.toolgen.catalog import load_catalog
from evaluation.toolbench.launcher.commands import main
from evaluation.toolbench.toolset.tools import FINISH_TOKEN, ToolSet, read_tool_set, write_data
from tests.helpers.pipeline import api_server, run_here
from tests.helpers.toolgen import save_tiny_checkpoint

TOOLS = DATA_DIR / "toolenv/tools"


def tool(name="Sky Watch", apis=("Daily Forecast",), **more):
    return {"tool_name": name, "api_list": [{"name": api} for api in apis], **more}


def write_tool(folder, content, category="Weather", name="tool"):
    path = folder / category / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def make(tmp_path, base, tools=TOOLS):
    return main(["new_toolset", "--tools", str(tools), "--base_model", str(base), "--out", str(tmp_path / "mine")])


@pytest.fixture
def base(tmp_path):
    return save_tiny_checkpoint(tmp_path / "base", seed=3)


def test_the_demos_tools_become_tokens_a_catalog_and_a_checkpoint(tmp_path, base, capsys):
    assert make(tmp_path, base) == 0
    said = capsys.readouterr().out
    catalog = load_catalog(tmp_path / "mine/data", "Atomic", "Ends.")
    demo = load_catalog(DATA_DIR, "Atomic", "Ends.")
    assert set(catalog.actions) == set(demo.actions)
    assert catalog.documentation == demo.documentation
    assert f"12 tools with {len(demo.actions) - 1} APIs" in said
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "mine/model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "mine/model")
    vocabulary = tokenizer.get_vocab()
    assert set(catalog.actions) <= set(vocabulary)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert (
        tokenizer("say <<Sky Watch&&Daily Forecast>>")["input_ids"][-1] == vocabulary["<<Sky Watch&&Daily Forecast>>"]
    )


def test_a_new_row_is_the_mean_of_what_spells_its_name_and_the_others_stay(tmp_path, base):
    make(tmp_path, base)
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (base, tmp_path / "mine/model"))
    spelling = AutoTokenizer.from_pretrained(base)("Sky Watch Daily Forecast", add_special_tokens=False)["input_ids"]
    row = AutoTokenizer.from_pretrained(tmp_path / "mine/model").get_vocab()["<<Sky Watch&&Daily Forecast>>"]
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new[: len(old)])
    for end in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, end)().weight, getattr(after, end)().weight
        torch.testing.assert_close(new[row], old[spelling].mean(0))


def test_rows_that_a_model_has_to_spare_are_used(tmp_path):
    base = save_tiny_checkpoint(tmp_path / "base", vocab_size=1000)
    make(tmp_path, base)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "mine/model").get_input_embeddings().weight.shape[0] == 1000


@pytest.mark.slow
def test_what_was_made_runs(tmp_path, base):
    make(tmp_path, base)
    [query, *_] = json.loads((DATA_DIR / "solvable_queries/test_instruction/demo_queries.json").read_text())
    (tmp_path / "queries.json").write_text(json.dumps([query]))
    flags = {
        "backbone_model": "toolgen_atomic",
        "model_path": tmp_path / "mine/model",
        "data_dir": tmp_path / "mine/data",
        "input_query_file": tmp_path / "queries.json",
        "output_answer_file": tmp_path / "answers",
        "restrict_actions": "all",
        "max_new_tokens": 12,
        "single_chain_max_step": 6,
    }
    with api_server(tmp_path) as service_url:
        run = run_here([text for name, value in flags.items() for text in (f"--{name}", str(value))], service_url)
    assert run.returncode == 0, run.stderr


def test_tools_without_a_category_have_their_folders(tmp_path):
    write_tool(tmp_path / "tools", tool(), category="My Weather")
    tool_set = read_tool_set(tmp_path / "tools")
    assert [each["category_name"] for each in tool_set.tools] == ["My Weather"]
    write_data(tmp_path / "data", tool_set)
    assert (tmp_path / "data/toolenv/tools/My_Weather/sky_watch.json").is_file()
    assert (tmp_path / "data/virtual_tokens.txt").read_text() == f"{FINISH_TOKEN}\n<<Sky Watch&&Daily Forecast>>\n"


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([tool("A"), tool("A")], "whose token <<A&&Daily Forecast>> is taken"),
        ([tool("Café"), tool("Cafe")], "whose token <<Cafe&&Daily Forecast>> is taken"),
        ([tool("A&&B")], "'A&&B' .* cannot have a token"),
        ([tool("///")], "cannot have a token"),
        ([tool(apis=["a\nb"])], "cannot have a token"),
    ],
)
def test_names_that_no_token_can_have_are_refused(tools, words):
    with pytest.raises(DataError, match=words) as error:
        ToolSet(tools).tokens()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "cannot be read: not JSON"), ("[]", "is not a tool"), ('{"tool_name": "x"}', "is not a tool")],
)
def test_a_file_that_is_no_tool_is_named(tmp_path, content, words):
    path = write_tool(tmp_path, content)
    with pytest.raises(DataError, match=words) as error:
        read_tool_set(tmp_path)
    assert str(path) in str(error.value)


def test_what_cannot_be_is_one_line_and_code_2(tmp_path, base, capsys):
    assert make(tmp_path, base, tools=tmp_path / "none") == 2
    (tmp_path / "empty").mkdir()
    assert make(tmp_path, base, tools=tmp_path / "empty") == 2
    assert make(tmp_path, tmp_path / "no model") == 2
    assert not (tmp_path / "mine/data").exists()
    shutil.copytree(base, tmp_path / "mine/model")
    assert make(tmp_path, base) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "is there already" in lines[-1]
