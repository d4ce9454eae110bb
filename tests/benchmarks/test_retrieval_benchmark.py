"""The benchmark of retrieval: it runs without a GPU, and its anchor finds what our search finds."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import retrieval
from benchmarks.random_model import SHAPES, make_model
from benchmarks.retrieval import Job, MaskFromLists, Row, prompt_of, rules_of, table, tools_of
from evaluation.toolbench.retrieval.search import PromptSearch
from tests.helpers.beam_search import run_search, transformers_search


@pytest.mark.slow
def test_a_tiny_run_prints_its_measurements_and_a_table_last(capsys):
    flags = ["--tiny", "--num_queries", "12", "--anchor_queries", "1", "--at_once", "4"]
    assert retrieval.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    measured = [json.loads(line) for line in lines if line.startswith("{")]
    assert [each["search"].partition(",")[0] for each in measured] == ["anchor", "5 beams", "5 and 10 beams"]
    assert all(each["queries_per_s"] > 0 for each in measured)
    assert lines[-1].split()[:4] == ["5", "and", "10", "beams,"]


def test_the_anchor_and_our_search_name_the_same_tools():
    from evaluation.toolbench.inference.engine.paged.engine import PagedEngine

    job = Job("tiny", 30, (5,), 1, {})
    model = make_model(SHAPES["tiny"](), torch.device("cpu"), torch.float32)
    rules, trie = rules_of(model), tools_of(model)
    prompt = prompt_of(model, job, "7")
    tools = list(trie.allowed(0))
    theirs = transformers_search(model, prompt, rules, 5, processor=MaskFromLists(tools, rules.end_id, len(prompt)))
    engine = PagedEngine(model, num_pages=16)
    try:
        ours = run_search(engine, PromptSearch("7", prompt, rules, (5,), trie))[5]
    finally:
        engine.close()
    assert [result.token_ids for result in ours] == [ids for ids, _ in theirs]


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has as many GPUs")
def test_more_gpus_than_there_are_is_said_before_anything_is_made(capsys):
    assert retrieval.main(["--replicas", "1,8"]) == 2
    expected = f"needs 8 GPUs, found {torch.cuda.device_count()}" if torch.cuda.is_available() else "no GPU"
    assert expected in capsys.readouterr().err


def test_the_table_compares_with_the_limit_the_anchor_and_one_replica():
    rows = [Row("anchor", 1, 2.0), Row("5 beams", 1, 300.0), Row("5 beams", 2, 590.0)]
    last = table(rows, 400.0, 350.0).splitlines()[-1].split()
    assert last == ["5", "beams", "2", "590.00", "74%", "84%", "295", "1.97"]
