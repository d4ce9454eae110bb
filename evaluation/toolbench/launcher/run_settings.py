"""Turns the environment's variables into flags of the pipeline, and knows what a tree without any runs. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.inference.Downstream_tasks.query_sets import ALL, QUERY_FOLDER, SETS
from evaluation.toolbench.inference.errors import ConfigError

DEFAULT_SERVICE_URL = "http://localhost:8080/virtual"  # of ToolGen's own script
PUBLISHED_MODEL = "reasonwang/ToolGen-Llama-3-8B"

VARIABLES = """
  MODEL_PATH        folder or hub name of the checkpoint   (reasonwang/ToolGen-Llama-3-8B; the demo's)
                    several, separated by commas, are run one after another
  INDEXING          Atomic, Semantic, Numeric, Hierarchical   (Atomic); of several checkpoints one for all or one each
  TEMPLATE          llama-3, qwen-7b-chat   (llama-3); as INDEXING
  DATA_DIR          folder laid out like ToolGen's data/   (data/ of this tree; the demo's)
  STAGE, GROUP      which set of queries: solvable_queries/test_instruction/${STAGE}_${GROUP}.json   (G3, instruction)
                    several, as in STAGE="G1 G2" GROUP="instruction category", or STAGE=all for the six of the paper,
                    are one run that loads the model once
  OUTPUT_DIR        answers go to $OUTPUT_DIR/${STAGE}_${GROUP}   (data/answer/<model>; outputs/<model> without data/)
                    of several checkpoints, to $OUTPUT_DIR/<model>/${STAGE}_${GROUP}
  METHOD            CoT@1, CoT@3, DFS_woFilter_w2, ...; one or several   (CoT@1)
  NUM_THREAD        conversations at once in each replica: auto or a number   (auto)
  NUM_REPLICAS      copies of the model: auto or a number   (auto)
  MAX_GPU_MEMORY    "20GiB" for every GPU, "20GiB,10GiB" one per GPU, "80%"   (85% of what is free)
  WEIGHTS           auto, int8, fp8: weights in 8 bits take half the memory; answers may differ   (auto)
  KV_CACHE          auto, fp8: keys and values in 8 bits, for twice the conversations; answers may differ   (auto)
  RESTRICT_ACTIONS  off, all (only tools of the catalog), truth (only tools of the query)   (off)
  ENGINE            paged, generate, server   (paged where the model allows it)
  ENGINE_URL        of ENGINE=server: http://HOST:8000/v1, several separated by commas; scripts/serve_vllm.sh starts one
  ENGINE_API_KEY    its key, passed on in the environment, never written anywhere
  SERVICE_URL       a running API server; when not set, the offline server of this tree is started and stopped, or
                    http://localhost:8080/virtual is used where there is no response cache
  API_CACHE_DIR     response cache it replays   ($DATA_DIR/tool_response_cache)
  SIMULATOR_URL     a chat model's server, http://HOST:8000/v1, that is asked what the response cache lacks: one of
                    StableToolBench's MirrorAPI models, or any other; its replies are kept and replayed
  SIMULATOR_MODEL   its name there   (the only model that is served)
  SIMULATOR_API_KEY   its key, passed on in the environment, never written anywhere
  SIMULATOR_PROMPTS   checkout of StableToolBench, for MirrorAPI's system prompt   (the one around the cache)
  SIMULATED_DIR     folder for its replies   (beside the response cache: tool_response_cache_simulated)
  TOOLBENCH_KEY, OPENAI_KEY, RAPIDAPI_KEY   passed on in the environment, where other users cannot read them
  CUDA_VISIBLE_DEVICES
"""

_AS_FLAGS = {
    "METHOD": "--method",
    "NUM_THREAD": "--num_thread",
    "NUM_REPLICAS": "--num_replicas",
    "MAX_GPU_MEMORY": "--max_gpu_memory",
    "WEIGHTS": "--weights",
    "KV_CACHE": "--kv_cache",
    "RESTRICT_ACTIONS": "--restrict_actions",
    "ENGINE": "--engine",
    "ENGINE_URL": "--engine_url",
}
# Words of which training programs and caches make folder names that tell nothing of the model in them.
_EMPTY_WORD = re.compile(
    "final|last|latest|best|merged|full|hf|pt|exports?|exported|outputs?|results?|models?|weights|checkpoints?|ckpts?|"
    "global|step|epoch|iter|v|snapshots"
)
_USUAL_SET = ("G3", "instruction")  # of ToolGen's own script
# What a run over many queries wants where the pipeline, as ToolGen's, has another default.
_DEFAULTS = {"NUM_THREAD": "auto", "NUM_REPLICAS": "auto"}


@dataclass(frozen=True)
class RunSettings:
    """Says where everything lies. A set is a query file without its `.json`."""

    is_demo: bool
    model_path: str
    data_dir: Path
    output_dir: Path
    query_sets: tuple[str, ...]

    @property
    def query_folder(self) -> Path:
        return self.data_dir / QUERY_FOLDER

    def answers(self, query_set: str) -> Path:
        return self.output_dir / query_set


def settings_of(environment: Mapping[str, str], root: Path) -> RunSettings:
    """Return what the variables ask for, in the tree at `root`: the demo where neither a checkpoint nor data are there.

    ConfigError for stages and groups of which no set has a file.
    """
    demo = root / "evaluation/toolbench/demo"
    # An installed package has no place for data and answers of its own: its user's folder has.
    tree = Path.cwd() if root.name == "site-packages" else root
    has_data = (tree / "data").is_dir()
    asked_model, asked_data = environment.get("MODEL_PATH"), environment.get("DATA_DIR")
    is_demo = not has_data and not asked_data and (not asked_model or _is_same(asked_model, demo / "model"))
    model_path = str(demo / "model") if is_demo else asked_model or PUBLISHED_MODEL
    model_name = "demo" if is_demo else model_name_of(model_path)
    output = tree / ("data/answer" if has_data else "outputs") / model_name
    data_dir = demo / "assets" if is_demo else Path(asked_data) if asked_data else tree / "data"
    return RunSettings(
        is_demo,
        model_path,
        data_dir=data_dir,
        output_dir=Path(environment.get("OUTPUT_DIR") or output),
        query_sets=_query_sets(environment, data_dir / QUERY_FOLDER, ("demo", "queries") if is_demo else _USUAL_SET),
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


def one_checkpoint_each(environment: Mapping[str, str], root: Path) -> list[Mapping[str, str]]:
    """Return the environment for each of the checkpoints in $MODEL_PATH. ConfigError for lists that do not match."""
    given = environment.get("MODEL_PATH") or ""
    paths = [path.strip() for path in given.split(",") if path.strip()]
    if len(paths) < 2 or Path(given).exists():
        return [environment]
    paths = list(dict.fromkeys(paths))
    names = [model_name_of(path) for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"MODEL_PATH={given}: two checkpoints would share a folder of answers; run them by themselves"
        )
    above = settings_of({**environment, "MODEL_PATH": paths[0]}, root).output_dir
    above = above if environment.get("OUTPUT_DIR") else above.parent
    return [
        {
            **environment,
            "MODEL_PATH": path,
            "OUTPUT_DIR": str(above / name),
            **{key: _one_of(environment, key, number, len(paths)) for key in ("INDEXING", "TEMPLATE")},
        }
        for number, (path, name) in enumerate(zip(paths, names, strict=True))
    ]


def pipeline_flags(settings: RunSettings, environment: Mapping[str, str], query_sets: Sequence[str]) -> list[str]:
    """Return the pipeline's flags for these sets of queries; those that the user gives come after them and win."""
    indexing = environment.get("INDEXING") or "Atomic"
    files = [str(settings.query_folder / f"{name}.json") for name in query_sets]
    output = settings.answers(query_sets[0]) if len(query_sets) == 1 else settings.output_dir
    flags = {
        "--model_path": settings.model_path,
        "--backbone_model": "toolgen_atomic" if indexing == "Atomic" else "toolgen",
        "--indexing": indexing,
        "--template": environment.get("TEMPLATE") or "llama-3",
        "--data_dir": str(settings.data_dir),
        "--tool_root_dir": str(settings.data_dir / "toolenv/tools"),
        "--output_answer_file": str(output),
        "--chatgpt_model": "gpt-4o",
        "--function_provider": "all",
    }
    given = {name: environment.get(name) or _DEFAULTS.get(name) for name in _AS_FLAGS}
    flags |= {_AS_FLAGS[name]: value for name, value in given.items() if value}
    lists = {"--input_query_file": files, "--method": words(flags.pop("--method", ""))}
    given_lists = [text for flag, values in lists.items() if values for text in _listed(flag, values)]
    return [*(f"{flag}={value}" for flag, value in flags.items()), *given_lists]


def words(text: str) -> list[str]:
    """
    >>> words("G1 G2"), words("G1, G2"), words("")
    (['G1', 'G2'], ['G1', 'G2'], [])
    """
    return [word for word in re.split(r"[,\s]+", text) if word]


def _query_sets(environment: Mapping[str, str], folder: Path, usual: tuple[str, str]) -> tuple[str, ...]:
    """Return the sets that $STAGE and $GROUP name: of several, those that have a file in `folder`."""
    stages, groups = words(environment.get("STAGE") or usual[0]), words(environment.get("GROUP") or "")
    if stages == [ALL]:
        stages, groups = list(dict.fromkeys(name.split("_")[0] for name in SETS)), groups or [ALL]
    if groups == [ALL]:
        groups = list(dict.fromkeys(name.split("_")[1] for name in SETS))
    names = tuple(f"{stage}_{group}" for stage, group in itertools.product(stages, groups or [usual[1]]))
    if len(names) == 1:
        return names
    found = tuple(name for name in names if (folder / f"{name}.json").is_file())
    if not found:
        raise no_such_sets(f"STAGE={environment.get('STAGE')}", names, folder)
    return found


def no_such_sets(asked: str, missing: Sequence[str], folder: Path) -> ConfigError:
    found = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
    return ConfigError(
        f"{asked}: no {', '.join(missing) or 'set'} in {folder}, which has {found}; DATA_DIR names another folder of "
        "data, such as ToolGen's"
    )


def _one_of(environment: Mapping[str, str], name: str, number: int, of: int) -> str:
    values = words(environment.get(name) or "")
    if len(values) not in (0, 1, of):
        raise ConfigError(f"{name}={environment[name]}: give one for all {of} checkpoints of MODEL_PATH, or one each")
    return "" if not values else values[0] if len(values) == 1 else values[number]


def _listed(flag: str, values: Sequence[str]) -> list[str]:
    return [f"{flag}={values[0]}"] if len(values) == 1 else [flag, *values]


def _says_nothing(folder_name: str) -> bool:
    if re.fullmatch("[0-9a-f]{40}", folder_name):  # a revision of the Hub
        return True
    return all(map(_EMPTY_WORD.fullmatch, re.findall("[a-z]+", folder_name.lower())))


def _is_same(path: str, folder: Path) -> bool:
    return Path(path).resolve() == folder.resolve()
