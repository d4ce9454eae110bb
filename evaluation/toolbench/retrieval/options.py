"""Defines the command line of the retrieval evaluation: ToolGen's flags, and ours."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.command_line import (
    OneLineParser,
    auto_or_positive,
    positive,
    seconds,
    text_or_none,
)
from evaluation.toolbench.inference.Downstream_tasks.config import ModelConfig, RunConfig
from evaluation.toolbench.inference.engine import ENGINES, KV_CACHES, SERVER_WAIT_S
from evaluation.toolbench.inference.engine.kv_format import require_pages
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, GpuConfig
from evaluation.toolbench.inference.multi_gpu.number_formats import WEIGHTS, require_own_weights
from evaluation.toolbench.inference.replicas.limits import Patience
from evaluation.toolbench.inference.toolgen.catalog import FINISH_ACTIONS, default_data_dir
from evaluation.toolbench.inference.toolgen.chat_format import chat_format

BOTH = "both"
_TRUE, _FALSE = ("true", "1", "yes", "y", "t", "on"), ("false", "0", "no", "n", "f", "off")

# What ToolGen's own script passes. Its Python command has no defaults and fails without most of these.
_DEFAULTS = {
    "model_name_or_path": "reasonwang/ToolGen-Llama-3-8B-Tool-Retriever",
    "indexing": "Atomic",
    "stage": "G1",
    "split": "instruction",
    "result_path": "data/results/retrieval/",
    "constrain": True,
    "limit_to_stage_space": False,
    "template": "llama-3",
}


@dataclass(frozen=True)
class Choice:
    """Holds what the command line says of data and space. `constrained` has one entry for each way to search."""

    data_dir: Path
    indexing: str
    stages: Sequence[str]
    splits: Sequence[str]
    constrained: Sequence[bool]
    limited: bool = False  # to the tools of the stage's corpus
    query_file: Path | None = None  # in ToolRet's format, instead of each split's own


@dataclass(frozen=True)
class EvaluationConfig:
    """Holds what an evaluation is told. `run` has what any run is told of its model, GPUs and patience."""

    choice: Choice
    result_path: str  # what the names of the result files begin with
    overwrite: bool
    run: RunConfig
    flags: Mapping[str, Any]  # as given or by default, for the record
    left_out: Sequence[str] = ()  # ToolGen's flags that were not given, with the defaults that hold instead

    @property
    def model_path(self) -> str:
        return self.run.model.model_path

    @property
    def indexing(self) -> str:
        return self.choice.indexing

    @property
    def template(self) -> str:
        return self.run.model.template


def parse_options(argv: Sequence[str] | None = None) -> EvaluationConfig:
    """Read and check the options of an evaluation. ConfigError for what cannot work."""
    options = make_parser().parse_args(argv)
    if options.query_file and options.split is None:
        options.split = Path(options.query_file).stem
    left_out = [name for name in _DEFAULTS if getattr(options, name) is None]
    for name in left_out:
        setattr(options, name, _DEFAULTS[name])
    options.data_dir = options.data_dir or str(_data_dir())
    _check(options)
    return EvaluationConfig(
        choice=Choice(
            data_dir=Path(options.data_dir),
            indexing=options.indexing,
            stages=list(dict.fromkeys(options.stage.split())),
            splits=list(dict.fromkeys(options.split.split())),
            constrained=(True, False) if options.constrain == BOTH else (options.constrain,),
            limited=options.limit_to_stage_space,
            query_file=Path(options.query_file) if options.query_file else None,
        ),
        result_path=options.result_path,
        overwrite=options.overwrite,
        run=_run_config(options),
        flags=dict(vars(options)),
        left_out=[f"--{name} {_DEFAULTS[name]}" for name in left_out],
    )


def _check(options: argparse.Namespace) -> None:
    chat_format(options.template)
    if options.indexing not in FINISH_ACTIONS:
        raise ConfigError(f"unknown --indexing {options.indexing!r}: use {', '.join(FINISH_ACTIONS)}")
    if not options.stage.split() or not options.split.split():
        raise ConfigError("--stage and --split need at least one name each")
    if not options.result_path:
        raise ConfigError(
            "--result_path is empty: pass what the result files' names begin with, such as a folder and /"
        )
    if options.engine == "server" and not options.engine_url:
        raise ConfigError("--engine server needs --engine_url http://HOST:8000/v1")
    require_own_weights(options.weights, engine=options.engine)
    require_pages(options.kv_cache, options.engine)
    from evaluation.toolbench.inference.multi_gpu.model_files import local_folder  # httpx: not for --help

    local_folder(options.model_name_or_path)


def _run_config(options: argparse.Namespace) -> RunConfig:
    """Return the model, its GPUs and the engine, in the words that all runs have for them."""
    return RunConfig(
        num_thread=options.num_thread,
        replica_timeout=options.replica_timeout,
        disable_tqdm=options.disable_tqdm,
        exit_with_parent=options.exit_with_parent,
        model=ModelConfig(
            backbone_model="toolgen",
            model_path=options.model_name_or_path,
            template=options.template,
            indexing=options.indexing,
            dtype=options.dtype,
            weights=options.weights,
            kv_cache=options.kv_cache,
            engine=options.engine,
            engine_url=options.engine_url,
            engine_model=options.engine_model,
            engine_wait=options.engine_wait,
        ),
        gpus=GpuConfig(
            num_gpus=options.num_gpus,
            max_gpu_memory=options.max_gpu_memory,
            num_replicas=options.num_replicas,
        ),
    )


_EXAMPLES = """
toolgen retrieval                                       # the demo, or the data/ of the ToolGen checkout
toolgen retrieval --stage "G1 G2 G3" --split "instruction tool category"   # the paper's first table
toolgen retrieval --constrain both                      # how often does the model leave the tool space?
"""


# fmt: off
def make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        allow_abbrev=False,
        description="Evaluate which tools a model names for queries: beam search over the tool space, NDCG, recall and "
        "reciprocal rank, on every visible GPU. An interrupted evaluation goes on where it was.",
        examples=_EXAMPLES,
        epilog="Exit codes: 0 done, 1 queries failed, 2 could not start, 128 + N ended by signal N.",
    )
    add = parser.add_argument_group("ToolGen's flags").add_argument
    add("--model_name_or_path", metavar="PATH",
        help=_help("folder or hub name of the checkpoint", "model_name_or_path"))
    add("--indexing", help=_help("how the model writes tools: Atomic, Semantic, Numeric or Hierarchical", "indexing"))
    add("--stage", metavar="NAMES", help=_help('which corpora: "G1", or several as in "G1 G2 G3"', "stage"))
    add("--split", metavar="NAMES",
        help=_help('which queries of each: "test", or "instruction tool category"', "split"))
    add("--result_path", metavar="PREFIX",
        help=_help("what the result files' names begin with; the folder is made", "result_path"))
    add("--constrain", type=_truth_or_both, metavar="BOOL",
        help=_help("search within the tool space; false: among all texts; both: one after the other", "constrain"))
    add("--limit_to_stage_space", type=_truth, metavar="BOOL",
        help=_help("limit the tool space to the stage's corpus; of a search among all texts, what counts as a tool",
                   "limit_to_stage_space"))
    add("--template", help=_help("chat layout of the checkpoint: llama-3 or qwen-7b-chat", "template"))

    add = parser.add_argument_group("data").add_argument
    add("--data_dir", metavar="DIR",
        help="folder laid out like ToolGen's data/ (default: ./data, then the checkout's; without either, the demo's)")
    add("--query_file", metavar="FILE",
        help='queries in ToolRet\'s format, {"id", "query", "labels": [{"id", "relevance"}]}, as a JSON list or one a '
        "line; --split then only names the results (default: the file's name)")
    add("--overwrite", action="store_true", help="begin anew, also where an earlier run got")

    add = parser.add_argument_group("model and GPUs").add_argument
    add("--engine", default=AUTO, choices=ENGINES,
        help="paged: batches all queries; generate: one forward pass at a time; server: an OpenAI-compatible server "
        "that gives log-probabilities; auto: paged, or generate for a model that paged cannot serve (default: auto)")
    add("--engine_url", type=text_or_none, metavar="URL",
        help="of --engine server: http://HOST:8000/v1, several separated by commas; the key is $ENGINE_API_KEY")
    add("--engine_model", type=text_or_none, metavar="NAME", help="the checkpoint's name on the server")
    add("--engine_wait", type=seconds, default=SERVER_WAIT_S, metavar="S",
        help="how long to wait for a server when all are down")
    add("--dtype", default=AUTO, choices=(AUTO, "bfloat16", "float16", "float32"),
        help="auto: bfloat16 on GPUs, float32 on the CPU")
    add("--weights", default=AUTO, choices=WEIGHTS,
        help="of the decoder's linear layers, quantised while loading: auto, as --dtype; int8, on any card; fp8, on "
        "cards that have it, and faster there. Half the memory, and predictions that may differ (default: auto)")
    add("--kv_cache", default=AUTO, choices=KV_CACHES,
        help="keys and values: auto, as --dtype; fp8, on any card, in half the memory (default: auto)")
    add("--num_gpus", type=positive, metavar="N", help="GPUs to use (default: all that CUDA sees)")
    add("--num_replicas", type=auto_or_positive, default=AUTO, metavar="N",
        help="copies of the model (default: auto, as many as promise the most queries a second)")
    add("--max_gpu_memory", type=text_or_none, metavar="SIZE", help='"20GiB" for every GPU, "20GiB,10GiB" one per GPU')
    add("--num_thread", type=auto_or_positive, default=AUTO, metavar="N", help="queries at once in each replica")
    add("--replica_timeout", type=seconds, default=Patience.replica_s, metavar="S",
        help="a replica that makes no progress for this many seconds is considered hung and started again")
    add("--disable_tqdm", action="store_true", help="no live display; a line now and then")
    add("--exit_with_parent", type=positive, metavar="PID", help="stop when the process with this id has ended")
    return parser
# fmt: on


def _help(text: str, name: str) -> str:
    return f"{text} (default: {_DEFAULTS[name]})"


def _data_dir() -> Path:
    """Return the folder where ToolGen looks, below the working directory; elsewhere if there is none."""
    here = Path("data")
    return here if (here / "retrieval").is_dir() else default_data_dir()


def _truth(text: str) -> bool:
    """Read it as click does, in any case."""
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {', '.join(_TRUE)} nor {', '.join(_FALSE)}")
    return word in _TRUE


def _truth_or_both(text: str) -> bool | str:
    return BOTH if text.strip().lower() == BOTH else _truth(text)
