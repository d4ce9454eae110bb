"""The environment's variables as flags of the retrieval evaluation."""

from pathlib import Path

import pytest

from evaluation.toolbench.launcher.retrieval import evaluation_flags
from evaluation.toolbench.retrieval.options import parse_options

DEMO = "evaluation/toolbench/demo"


def config_of(environment, root):
    return parse_options(evaluation_flags(environment, root))


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path


def test_a_tree_by_itself_evaluates_the_demo(tmp_path):
    (tmp_path / DEMO / "model").mkdir(parents=True)
    config = config_of({}, tmp_path)
    assert config.model_path == str(tmp_path / DEMO / "model")
    assert (config.choice.stages, config.choice.splits) == (["demo"], ["seen", "held_out"])
    assert config.choice.data_dir == tmp_path / DEMO / "assets"
    assert config.result_path == f"{tmp_path}/outputs/demo/retrieval/"
    assert not config.left_out


def test_a_checkout_evaluates_its_data_with_the_published_retriever(checkout):
    config = config_of({}, checkout)
    assert config.model_path == "reasonwang/ToolGen-Llama-3-8B-Tool-Retriever"
    assert config.choice.data_dir == checkout / "data"
    assert (config.choice.stages, config.choice.splits, config.choice.constrained) == (["G1"], ["instruction"], (True,))
    assert config.result_path == f"{checkout}/data/results/retrieval/"


def test_every_variable_becomes_its_flag(checkout):
    environment = {
        "MODEL_PATH": str(checkout),
        "INDEXING": "Semantic",
        "TEMPLATE": "qwen-7b-chat",
        "STAGES": "G1 G2 G3",
        "SPLITS": "instruction tool category",
        "CONSTRAIN": "both",
        "LIMIT_TO_STAGE_SPACE": "True",
        "DATA_DIR": "/elsewhere",
        "RESULT_PATH": "out/x",
        "ENGINE": "paged",
        "WEIGHTS": "fp8",
        "KV_CACHE": "fp8",
        "NUM_REPLICAS": "3",
        "MAX_GPU_MEMORY": "20GiB",
    }
    config = config_of(environment, checkout)
    choice, run = config.choice, config.run
    assert (choice.stages, choice.splits) == (["G1", "G2", "G3"], ["instruction", "tool", "category"])
    assert (choice.indexing, choice.constrained, choice.limited) == ("Semantic", (True, False), True)
    assert (choice.data_dir, config.result_path, config.template) == (Path("/elsewhere"), "out/x", "qwen-7b-chat")
    assert (run.model.weights, run.model.kv_cache) == ("fp8", "fp8")
    assert (run.model.engine, run.gpus.num_replicas, run.gpus.max_gpu_memory) == ("paged", 3, "20GiB")


def test_variables_that_are_empty_are_not_set(checkout):
    assert evaluation_flags({"STAGES": "", "ENGINE": ""}, checkout) == evaluation_flags({}, checkout)
