"""The environment's variables as flags of the pipeline, and what a tree without settings runs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SETS = ("G1_instruction", "G1_tool", "G1_category", "G2_instruction", "G2_category", "G3_instruction")
DEFAULT_SERVICE_URL = "http://localhost:8080/virtual"  # of ToolGen's own script
PUBLISHED_MODEL = "reasonwang/ToolGen-Llama-3-8B"

VARIABLES = """
  MODEL_PATH        folder or hub name of the checkpoint   (reasonwang/ToolGen-Llama-3-8B; the demo's)
  INDEXING          Atomic, Semantic, Numeric, Hierarchical   (Atomic)
  TEMPLATE          llama-3, qwen-7b-chat   (llama-3)
  DATA_DIR          folder laid out like ToolGen's data/   (data/ of this tree; the demo's)
  STAGE, GROUP      which set of queries: solvable_queries/test_instruction/${STAGE}_${GROUP}.json   (G3, instruction)
  OUTPUT_DIR        answers go to $OUTPUT_DIR/${STAGE}_${GROUP}   (data/answer/<model>; outputs/<model> without data/)
  METHOD            CoT@1, CoT@3, DFS_woFilter_w2, ...   (CoT@1)
  NUM_THREAD        conversations at once in each replica: auto or a number   (auto)
  NUM_REPLICAS      copies of the model: auto or a number   (auto)
  MAX_GPU_MEMORY    "20GiB" for every GPU, "20GiB,10GiB" one per GPU, "80%"   (85% of what is free)
  RESTRICT_ACTIONS  off, all (only tools of the catalog), truth (only tools of the query)   (off)
  ENGINE            paged, generate, server   (paged where the model allows it)
  ENGINE_URL        of ENGINE=server: http://HOST:8000/v1, several separated by commas; scripts/serve_vllm.sh starts one
  ENGINE_API_KEY    its key, passed on in the environment, never written anywhere
  SERVICE_URL       a running API server; when not set, the offline server of this tree is started and stopped, or
                    http://localhost:8080/virtual is used where there is no response cache
  API_CACHE_DIR     response cache it replays   ($DATA_DIR/tool_response_cache)
  TOOLBENCH_KEY, OPENAI_KEY, CUDA_VISIBLE_DEVICES
"""

_AS_FLAGS = {
    "METHOD": "--method",
    "NUM_THREAD": "--num_thread",
    "NUM_REPLICAS": "--num_replicas",
    "MAX_GPU_MEMORY": "--max_gpu_memory",
    "RESTRICT_ACTIONS": "--restrict_actions",
    "ENGINE": "--engine",
    "ENGINE_URL": "--engine_url",
    "OPENAI_KEY": "--openai_key",
    "TOOLBENCH_KEY": "--toolbench_key",
}
# Words of which training programs and caches make folder names that tell nothing of the model in them.
_EMPTY_WORD = re.compile(
    "final|last|latest|best|merged|full|hf|pt|exports?|exported|outputs?|results?|models?|weights|checkpoints?|ckpts?|"
    "global|step|epoch|iter|v|snapshots"
)
# What a run over many queries wants where the pipeline, as ToolGen's, has another default.
_DEFAULTS = {"NUM_THREAD": "auto", "NUM_REPLICAS": "auto"}


@dataclass(frozen=True)
class RunSettings:
    """Where everything lies. A set is a query file without its `.json`."""

    is_demo: bool
    model_path: str
    data_dir: Path
    output_dir: Path
    query_set: str

    def answers(self, query_set: str) -> Path:
        return self.output_dir / query_set


def settings_of(environment: Mapping[str, str], root: Path) -> RunSettings:
    """What the variables ask for, in the tree at `root`: the demo where neither a checkpoint nor data are there."""
    demo = root / "evaluation/toolbench/demo"
    has_data = (root / "data").is_dir()
    asked_model, asked_data = environment.get("MODEL_PATH"), environment.get("DATA_DIR")
    is_demo = not has_data and not asked_data and (not asked_model or _is_same(asked_model, demo / "model"))
    model_path = str(demo / "model") if is_demo else asked_model or PUBLISHED_MODEL
    model_name = "demo" if is_demo else model_name_of(model_path)
    output = root / ("data/answer" if has_data else "outputs") / model_name
    stage, group = ("demo", "queries") if is_demo else ("G3", "instruction")
    return RunSettings(
        is_demo,
        model_path,
        data_dir=demo / "assets" if is_demo else Path(asked_data) if asked_data else root / "data",
        output_dir=Path(environment.get("OUTPUT_DIR") or output),
        query_set=f"{environment.get('STAGE') or stage}_{environment.get('GROUP') or group}",
    )


def model_name_of(model_path: str) -> str:
    """Return a name for the answers of this model: the last part of its path, with those above where it says nothing.

    >>> model_name_of("/runs/lr5/checkpoint-1000/"), model_name_of("reasonwang/ToolGen-Llama-3-8B")
    ('lr5-checkpoint-1000', 'ToolGen-Llama-3-8B')
    """
    path = Path(model_path).expanduser()
    parts = [part for part in (path.absolute() if path.is_dir() else path).parts if part != path.anchor]
    first = len(parts) - 1
    while first > 0 and _says_nothing(parts[first]):
        first -= 1
    return "-".join(parts[first:])


def pipeline_flags(settings: RunSettings, environment: Mapping[str, str], query_set: str) -> list[str]:
    """The pipeline's flags for one set of queries; those that the user gives come after them and win."""
    indexing = environment.get("INDEXING") or "Atomic"
    queries = settings.data_dir / "solvable_queries/test_instruction" / f"{query_set}.json"
    flags = {
        "--model_path": settings.model_path,
        "--backbone_model": "toolgen_atomic" if indexing == "Atomic" else "toolgen",
        "--indexing": indexing,
        "--template": environment.get("TEMPLATE") or "llama-3",
        "--data_dir": str(settings.data_dir),
        "--tool_root_dir": str(settings.data_dir / "toolenv/tools"),
        "--input_query_file": str(queries),
        "--output_answer_file": str(settings.answers(query_set)),
        "--chatgpt_model": "gpt-4o",
        "--function_provider": "all",
    }
    given = {name: environment.get(name) or _DEFAULTS.get(name) for name in _AS_FLAGS}
    flags |= {_AS_FLAGS[name]: value for name, value in given.items() if value}
    return [f"{flag}={value}" for flag, value in flags.items()]


def _says_nothing(folder_name: str) -> bool:
    if re.fullmatch("[0-9a-f]{40}", folder_name):  # a revision of the Hub
        return True
    return all(map(_EMPTY_WORD.fullmatch, re.findall("[a-z]+", folder_name.lower())))


def _is_same(path: str, folder: Path) -> bool:
    return Path(path).resolve() == folder.resolve()
