"""Real queries, real tools and the published 46,985 tool tokens, where they are at hand beside the repository."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.random_checkpoint import save_random_checkpoint, tool_tokens
from evaluation.toolbench.inference.Downstream_tasks.functions import ToolPackage
from evaluation.toolbench.inference.Downstream_tasks.queries import read_queries
from evaluation.toolbench.inference.Downstream_tasks.tool_files import read_tools_json
from evaluation.toolbench.inference.qa_pipeline_multithread import main
from evaluation.toolbench.inference.toolgen.catalog import load_catalog
from evaluation.toolbench.inference.toolgen.names import ActionName
from tests.pipeline_helpers import ROOT, api_server

REAL_DATA = Path(os.environ.get("TOOLGEN_REAL_DATA", ROOT.parent / "shared" / "real_data"))
QUERIES = REAL_DATA / "solvable_queries" / "test_instruction"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not QUERIES.is_dir(), reason=f"no real data at {REAL_DATA} (TOOLGEN_REAL_DATA names another)"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    save_random_checkpoint(REAL_DATA, folder)
    return folder


@pytest.mark.parametrize("method", ["CoT@1", "DFS_woFilter_w2"])
def test_real_queries_become_answers_whose_every_action_is_a_real_tool(checkpoint, tmp_path, monkeypatch, method):
    queries = json.loads((QUERIES / "G3_instruction.json").read_text(encoding="utf-8"))[:2]
    query_file = tmp_path / "queries.json"
    query_file.write_text(json.dumps(queries), encoding="utf-8")
    flags = {
        "backbone_model": "toolgen_atomic",
        "model_path": checkpoint,
        "data_dir": REAL_DATA,
        "input_query_file": query_file,
        "output_answer_file": tmp_path / "answers",
        "function_provider": "all",
        "restrict_actions": "all",
        "method": method,
        "single_chain_max_step": 4,
        "max_new_tokens": 24,
        "num_thread": 2,
    }
    with api_server(tmp_path) as service_url:
        monkeypatch.setenv("SERVICE_URL", service_url)
        assert main([text for name, value in flags.items() for text in (f"--{name}", str(value))]) == 0
    names = {str(name) for name in load_catalog(REAL_DATA, "Atomic", "").token_to_toolbench_name.values()}
    for query in queries:
        record = json.loads((tmp_path / "answers" / f"{query['query_id']}_{method}.json").read_text())
        actions = _actions(record["tree"]["tree"] if "tree" in record else {"children": record["trys"][0]["chain"]})
        assert len(actions) >= 2
        assert set(actions) <= names


def test_every_published_token_is_one_id_in_the_order_of_the_file(checkpoint):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokens = tool_tokens(REAL_DATA)
    first = tokenizer.convert_tokens_to_ids("<<Finish>>")
    assert len(tokens) == 46_985
    assert tokenizer.convert_tokens_to_ids(tokens) == list(range(first, first + len(tokens)))
    assert len(tokenizer) == first + len(tokens)


@pytest.mark.parametrize("name", ["G1_category", "G1_instruction", "G1_tool", "G3_instruction"])
def test_every_real_query_file_is_read_and_its_apis_can_be_called(name):
    package = ToolPackage.of_tools(read_tools_json(REAL_DATA / "toolenv" / "tools" / "tools.json"))
    queries = read_queries(QUERIES / f"{name}.json", {}, needs_api_list=True)
    assert len(queries) >= 60
    apis = [(api["tool_name"], api["api_name"]) for query in queries for api in query.api_list or ()]
    assert [api for api in apis if package.find(ActionName.of(*api)) is None] == []


def _actions(node: dict) -> list[str]:
    """The names called at and below a node."""
    own = [node["description"]] if node.get("node_type") == "Action" else []
    return own + [action for child in node.get("children", ()) for action in _actions(child)]
