"""Runs `toolgen retrieval`: the evaluation with the environment's settings; the demo's, in a tree without data."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.retrieval import eval_toolgen
from evaluation.toolbench.inference.command_line import called_as, say
from evaluation.toolbench.launcher.run_settings import settings_of
from evaluation.toolbench.retrieval.options import make_parser as make_evaluation_parser

ROOT = Path(__file__).resolve().parents[3]

_VARIABLES = """
environment variables, of which flags of the same meaning win:
  MODEL_PATH             folder or hub name of the checkpoint
                         (reasonwang/ToolGen-Llama-3-8B-Tool-Retriever; the demo's)
  INDEXING               Atomic, Semantic, Numeric, Hierarchical   (Atomic)
  TEMPLATE               llama-3, qwen-7b-chat   (llama-3)
  STAGES, SPLITS         one or several names, as in STAGES="G1 G2 G3" SPLITS="instruction tool category"
                         (G1, instruction; demo, seen held_out)
  CONSTRAIN              True, False, both   (True)
  LIMIT_TO_STAGE_SPACE   True, False   (False)
  DATA_DIR               folder laid out like ToolGen's data/   (data/ of this tree; the demo's)
  RESULT_PATH            what result files' names begin with   (data/results/retrieval/; outputs/demo/retrieval/)
  WEIGHTS, KV_CACHE, NUM_REPLICAS, MAX_GPU_MEMORY, CUDA_VISIBLE_DEVICES, ENGINE, ENGINE_URL, ENGINE_API_KEY
                         as for `run`
"""

_AS_FLAGS = {
    "MODEL_PATH": "--model_name_or_path",
    "INDEXING": "--indexing",
    "TEMPLATE": "--template",
    "STAGES": "--stage",
    "SPLITS": "--split",
    "CONSTRAIN": "--constrain",
    "LIMIT_TO_STAGE_SPACE": "--limit_to_stage_space",
    "DATA_DIR": "--data_dir",
    "RESULT_PATH": "--result_path",
    "ENGINE": "--engine",
    "ENGINE_URL": "--engine_url",
    "WEIGHTS": "--weights",
    "KV_CACHE": "--kv_cache",
    "NUM_REPLICAS": "--num_replicas",
    "MAX_GPU_MEMORY": "--max_gpu_memory",
}
_PUBLISHED_MODEL = "reasonwang/ToolGen-Llama-3-8B-Tool-Retriever"


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate what the variables and flags ask for; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(arguments):
        make_parser().parse_args(["--help"])
    if settings_of(os.environ, ROOT).is_demo:
        say("No data/ folder and no other MODEL_PATH: evaluating the bundled demo.")
    return eval_toolgen.main([*evaluation_flags(os.environ, ROOT), *arguments])


def make_parser() -> argparse.ArgumentParser:
    """Make the evaluation's parser, whose help names the environment's variables too."""
    parser = make_evaluation_parser()
    parser.prog = called_as("toolgen retrieval")
    parser.epilog = "\n\n".join((str(parser.epilog), _VARIABLES.strip()))
    return parser


def evaluation_flags(environment: Mapping[str, str], root: Path) -> list[str]:
    """Return the flags that the variables stand for, and what ToolGen's own script passes where nothing is said."""
    settings = settings_of(environment, root)
    if settings.is_demo:
        values = {
            "MODEL_PATH": settings.model_path,
            "DATA_DIR": str(settings.data_dir),
            "STAGES": "demo",
            "SPLITS": "seen held_out",
            "RESULT_PATH": f"{root / 'outputs/demo/retrieval'}/",
        }
    else:
        has_data = (root / "data").is_dir()
        values = {
            "MODEL_PATH": _PUBLISHED_MODEL,
            "DATA_DIR": str(settings.data_dir),
            "STAGES": "G1",
            "SPLITS": "instruction",
            "RESULT_PATH": f"{root / ('data/results' if has_data else 'outputs') / 'retrieval'}/",
        }
    values |= {"INDEXING": "Atomic", "TEMPLATE": "llama-3", "CONSTRAIN": "True", "LIMIT_TO_STAGE_SPACE": "False"}
    values |= {name: environment[name] for name in _AS_FLAGS if environment.get(name)}
    return [f"{_AS_FLAGS[name]}={value}" for name, value in values.items()]
