"""The demo's trained model solves its held-out queries in 8 bits too."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.demo.conversations import Renderer
from evaluation.toolbench.demo.corpus import demo_catalog
from evaluation.toolbench.demo.rollout import roll_out
from evaluation.toolbench.demo.samples import demo_queries
from evaluation.toolbench.demo.score import GOAL, load_expected
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.multi_gpu.number_formats import EIGHT_BIT
from evaluation.toolbench.inference.toolgen.prompts import LAYOUTS


@pytest.mark.parametrize("weights", EIGHT_BIT)
def test_held_out_queries_are_solved(weights):
    model = load_model(str(MODEL_DIR), device="cpu", weights=weights)
    renderer = Renderer.of(demo_catalog(DATA_DIR), AutoTokenizer.from_pretrained(MODEL_DIR))
    queries = [query for query in demo_queries() if query.split == "held_out"][::6]
    verdicts = roll_out(model, renderer, queries, load_expected(DATA_DIR), LAYOUTS["upstream"])
    assert sum(verdict.solved for verdict in verdicts) >= GOAL * len(queries)
