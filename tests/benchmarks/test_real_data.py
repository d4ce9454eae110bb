"""Real queries, real tools and the published 46,985 tool tokens, where they are at hand beside the repository."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks import real_queries
from benchmarks.random_checkpoint import save_random_checkpoint, tool_tokens
from evaluation.toolbench.inference.Downstream_tasks.functions import ToolPackage
from evaluation.toolbench.inference.Downstream_tasks.tool_files import read_tools_json
from evaluation.toolbench.inference.records.queries import read_queries
from evaluation.toolbench.names import ActionName
from tests.helpers.pipeline import ROOT

REAL_DATA = Path(os.environ.get("TOOLGEN_REAL_DATA", ROOT.parent / "shared" / "real_data"))
QUERIES = REAL_DATA / "solvable_queries" / "test_instruction"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not QUERIES.is_dir(), reason=f"no real data at {REAL_DATA} (TOOLGEN_REAL_DATA names another)"),
]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A folder of the benchmark, with its checkpoint."""
    folder = tmp_path_factory.mktemp("real queries")
    save_random_checkpoint(REAL_DATA, folder / "checkpoint")
    return folder


@pytest.mark.parametrize("method", ["CoT@1", pytest.param("DFS_woFilter_w2", marks=pytest.mark.long)])
def test_the_main_command_answers_real_queries_with_real_tools(output, capfd, method):
    size = ["--num_queries", "2", "--steps", "2", "--max_new_tokens", "24"]
    flags = ["--data_dir", str(REAL_DATA), "--output_dir", str(output), "--method", method, *size]
    exit_code = real_queries.main(flags)
    out, err = capfd.readouterr()
    assert exit_code == 0, err
    report = json.loads(out.splitlines()[-1])
    assert (report["queries"], report["missing"], report["invented_actions"]) == (2, 0, 0)
    assert report["actions"] == (4 if method == "CoT@1" else 12)  # 2 in a chain; 2 + 4 in a tree of width 2


def test_every_published_token_is_one_id_in_the_order_of_the_file(output):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(output / "checkpoint")
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
