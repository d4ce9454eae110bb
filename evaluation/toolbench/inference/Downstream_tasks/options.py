"""Defines the command line of the pipeline: its flags, and checks of what they say that need no model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.toolbench.inference.command_line import (
    OneLineParser,
    auto_or_positive,
    not_negative,
    positive,
    seconds,
    text_or_none,
)
from evaluation.toolbench.inference.Downstream_tasks.config import (
    BACKBONES,
    DEFAULTS,
    LOCAL_BACKBONES,
    ModelConfig,
    RunConfig,
)
from evaluation.toolbench.inference.Downstream_tasks.query_sets import set_places
from evaluation.toolbench.inference.engine import ENGINES, KV_CACHES, MAX_RUNNING
from evaluation.toolbench.inference.engine.kv_format import require_pages
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.number_formats import FORMATS, WEIGHTS, require_own_weights
from evaluation.toolbench.inference.replicas.layout import CPU_CONVERSATIONS
from evaluation.toolbench.inference.toolgen.catalog import FINISH_ACTIONS
from evaluation.toolbench.inference.toolgen.chat_format import check_template

if TYPE_CHECKING:
    from evaluation.toolbench.inference.engine.remote.settings import ServerSettings

PROVIDERS = ("truth", "retriever", "all")


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the options of a run. ConfigError or DataError for what cannot work."""
    config = RunConfig.of(make_parser().parse_args(argv))
    check(config)
    return argparse.Namespace(**config.flags())


def check(config: RunConfig) -> None:
    """Refuse what cannot work before anything slow begins. ConfigError, DataError."""
    model, tools = config.model, config.tools
    _ = config.part
    if not config.input_query_file:
        raise ConfigError("no queries: pass --input_query_file, a JSON list of queries")
    if not config.output_answer_file:
        raise ConfigError("nowhere to put the answers: pass --output_answer_file, a folder that is made if needed")
    set_places(config)
    if tools.function_provider == "retriever" and not (tools.retrieval_model_path and tools.corpus_tsv_path):
        raise ConfigError("--function_provider retriever needs --retrieval_model_path and --corpus_tsv_path")
    if not Path(tools.tool_root_dir).is_dir():
        raise ConfigError(
            f"no tool folder {tools.tool_root_dir}: pass --data_dir with toolenv/tools in it, or --tool_root_dir"
        )
    if model.backbone_model in LOCAL_BACKBONES:
        from evaluation.toolbench.inference.multi_gpu.model_files import local_folder  # httpx: not for --help

        local_folder(model.model_path)
    if isinstance(config.gpus.max_gpu_memory, str):
        from evaluation.toolbench.inference.multi_gpu.memory_map import check_amounts  # torch: not for --help

        check_amounts(config.gpus.max_gpu_memory)
    for flag in FORMATS:
        value = getattr(model, flag)
        if value != AUTO and not model.is_toolgen:
            raise ConfigError(
                f"--{flag} {value} with --backbone_model {model.backbone_model}: only toolgen_atomic and toolgen "
                "are loaded by this package; leave it out"
            )
    if model.is_toolgen:
        _check_toolgen(model)
        _check_engine(config)


def _check_toolgen(model: ModelConfig) -> None:
    check_template(model.template)
    if model.indexing_file is not None:
        if model.backbone_model != "toolgen" or model.indexing:
            raise ConfigError("--indexing_file is for --backbone_model toolgen, and in place of --indexing")
        if not Path(model.indexing_file).is_file():
            raise ConfigError(f"no --indexing_file {model.indexing_file}")
    elif model.backbone_model == "toolgen" and model.indexing not in FINISH_ACTIONS:
        raise ConfigError(
            f"unknown --indexing {model.indexing!r}: --backbone_model toolgen needs the one that the checkpoint "
            f"was trained with, {', '.join(FINISH_ACTIONS)}"
        )
    if model.backbone_model == "toolgen_atomic" and model.indexing not in ("", "Atomic"):
        raise ConfigError(
            f"--backbone_model toolgen_atomic has Atomic indexing; for --indexing {model.indexing!r} "
            "use --backbone_model toolgen"
        )


def _check_engine(config: RunConfig) -> None:
    model = config.model
    require_own_weights(model.weights, engine=model.engine, cpu_offloading=config.gpus.cpu_offloading)
    require_pages(model.kv_cache, model.engine)
    if model.engine != "server":
        if model.engine_url:
            raise ConfigError(
                f"--engine_url is for --engine server, not --engine {model.engine}: pass both, or neither"
            )
        return
    server_settings(model)
    for name in ("generation_timeout", "step_timeout", "query_timeout"):
        if model.engine_wait >= getattr(config, name):
            raise ConfigError(
                f"--engine_wait {model.engine_wait:g} is part of --{name} {getattr(config, name):g}: raise that too"
            )


def server_settings(model: ModelConfig) -> ServerSettings:
    """Return what the options say of generation servers. ConfigError."""
    from evaluation.toolbench.inference.engine.remote.settings import ServerSettings  # httpx: not for --help

    return ServerSettings.of(
        model.engine_url or "",
        model=model.engine_model,
        constraints=model.engine_constraints,
        wait_s=model.engine_wait,
    )


def make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        description="Run a model over files of queries: it calls APIs step by step, and every query's answer "
        "becomes a file. What is answered already is not run again, so a run that was stopped goes on where it was.",
        epilog="Exit code: 0 every query was run to its end, 1 some failed (see failures.json; the next run tries them "
        "again), 2 the run could not start or go on, 130 stopped with Ctrl-C. TOOLGEN_TRACEBACK=1 shows tracebacks. "
        "The API server is at $SERVICE_URL (default http://localhost:8080/virtual).",
    )
    _add_query_options(parser)
    _add_model_options(parser)
    _add_gpu_options(parser)
    _add_tool_options(parser)
    _add_search_options(parser)
    _add_run_options(parser)
    _add_other_backbone_options(parser)
    return parser


# fmt: off
def _add_query_options(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser, "queries and answers")
    add("--input_query_file", nargs="+", metavar="FILE",
        help="JSON list of queries; several are one run over all of them; all: the six of the paper, in --data_dir")
    add("--output_answer_file", metavar="DIR",
        help="folder (despite the name) for <query id>_<method>.json, made if it is not there; of several files, the "
        "folder for a folder of each, named like the file")
    add("--replace_file", metavar="FILE",
        help='JSON list of {"id", "query"}: texts to use instead of those in the query file')
    add("--limit", type=positive, metavar="N", help="only the first N queries of a file")
    add("--query_ids", metavar="IDS", help="only the queries with these ids, separated by commas")
    add("--shard", metavar="I/N",
        help="only part I (1 to N) of the queries: for job arrays, whose runs may share --output_answer_file")
    add("--dry_run", action="store_true",
        help="check everything that the run needs, print the plan, and run nothing")
    add("--overwrite", action="store_true",
        help="first remove the answers of this method to the queries of this file, and nothing else")
    add("--mix_settings", action="store_true",
        help="go on in a folder whose answers were made with other settings or texts, which is refused otherwise")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser, "model")
    add("--backbone_model", choices=BACKBONES,
        help="toolgen_atomic and toolgen are built in; the others are taken from a ToolGen checkout")
    add("--model_path", metavar="PATH", help="folder or hub name of the checkpoint")
    add("--template",
        help="chat layout the checkpoint was trained with: llama-3 (also when not given), qwen-7b-chat, or auto: the "
        "tokenizer's own chat template")
    add("--indexing",
        help="how toolgen writes tools: Atomic, Semantic, Numeric or Hierarchical; toolgen_atomic is always Atomic")
    add("--indexing_file", type=text_or_none, metavar="FILE",
        help="any other way in which toolgen writes tools: JSON of ToolBench name (or <<tool&&API>>) to text, with the "
        "text of Finish under \"Finish\"")
    add("--engine", choices=ENGINES,
        help="paged: continuous batching; generate: transformers' own generation, one request at a time; "
        "server: an OpenAI-compatible server; auto: paged, or generate for a model that paged cannot serve")
    add("--engine_url", type=text_or_none, metavar="URL",
        help="of --engine server: http://HOST:8000/v1, several separated by commas; the key is $ENGINE_API_KEY")
    add("--engine_model", type=text_or_none, metavar="NAME",
        help="the checkpoint's name on the server (default: what --model_path ends in)")
    add("--engine_wait", type=seconds, metavar="S",
        help="how long a run waits for a server when all are down, before it ends; it can be resumed")
    add("--engine_constraints", choices=(AUTO, "list", "grammar"),
        help="how the server is told more than 1,024 allowed tokens; auto: the form that the server has been shown to "
        "apply and that cannot crash it")
    add("--dtype", choices=("auto", "bfloat16", "float16", "float32"),
        help="auto: bfloat16 on GPUs, float32 on the CPU")
    add("--weights", choices=WEIGHTS,
        help="of the decoder's linear layers, quantised while loading: auto: as --dtype; int8: any card; fp8: cards of "
        "compute capability 8.9 and above, and faster there. Half the memory, and answers that may differ")
    add("--kv_cache", choices=KV_CACHES,
        help="keys and values: auto: as --dtype; fp8: in 8 bits, with a scale for each token and head, on any card: "
        "nearly twice the conversations in the same memory, and answers that may differ")
    add("--max_new_tokens", type=positive, metavar="N",
        help="longest thought, action or input, in tokens")
    add("--max_sequence_length", type=positive, metavar="N",
        help="longest conversation, in tokens, within the model's own limit")
    add("--restrict_actions", choices=("off", "all", "truth"),
        help="what may be generated as an action: off: anything; all: tools of the catalog; "
        "truth: tools of the query's own list")
    add("--generation_config", choices=("checkpoint", "ignore"),
        help="checkpoint: repetition_penalty, top_k and top_p of its generation_config.json hold, as with "
        "transformers' generate; ignore: they do not")
    add("--prompt_layout", choices=("upstream", "trained"),
        help="upstream: prompts as ToolGen's inference writes them; trained: as in its training data")
    add("--system_prompt_file", metavar="FILE",
        help="system prompt to use instead of the ToolGen checkout's, or of our own where there is none")
    add("--seed", type=not_negative, metavar="N", help="of everything that is drawn at random")


def _add_gpu_options(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser, "GPUs")
    add("--num_gpus", type=positive, metavar="N",
        help="GPUs to put the model on (default: all that CUDA sees, see CUDA_VISIBLE_DEVICES)")
    add("--max_gpu_memory", type=text_or_none, metavar="SIZE",
        help='"20GiB" or "80%%" for every GPU, "20GiB,10GiB" one per GPU (default: 85%% of what is free)')
    add("--cpu_offloading", action="store_true",
        help="let layers that do not fit on the GPUs lie in main memory, which makes every token slow")
    add("--num_replicas", type=auto_or_positive, metavar="N",
        help="copies of the model, each with its share of the GPUs; auto: as many as promise the most tokens a "
        "second; more than there are GPUs share them")


def _add_tool_options(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser, "tools and APIs")
    add("--data_dir", metavar="DIR",
        help="folder laid out like ToolGen's data/ (default: data/ of the checkout; without one, the demo's)")
    add("--tool_root_dir", metavar="DIR",
        help="folder of <category>/<tool>.json (default: toolenv/tools in --data_dir)")
    add("--function_provider", choices=PROVIDERS,
        help="what may be called: truth: the query's own list of APIs; retriever: what the retriever finds; "
        "all: every API of tools.json, as ToolGen does")
    add("--corpus_tsv_path", metavar="FILE", help="tool documents of the retriever")
    add("--retrieval_model_path", metavar="PATH", help="sentence-transformers model of the retriever")
    add("--retrieved_api_nums", type=positive, metavar="N", help="APIs the retriever gives a query")
    add("--toolbench_key", metavar="KEY",
        help="sent to the API server (default: $TOOLBENCH_KEY, which other users cannot see)")
    add("--rapidapi_key", metavar="KEY", help="for --use_rapidapi_key (default: $RAPIDAPI_KEY)")
    add("--use_rapidapi_key", action="store_true",
        help="call the tools' own api.py on this machine with --rapidapi_key, not the API server")
    add("--api_customization", action="store_true", help="the same without a key")
    add("--max_observation_length", type=not_negative, metavar="N",
        help="characters of an observation that the model sees")
    add("--observ_compress_method", choices=("truncate", "filter", "random"),
        help="how the API server shortens observations")


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser, "search")
    add("--method", nargs="+",
        help="one or several; CoT@n: up to n chains; DFS_w2: a tree with up to 2 children a node, ranked; "
        "DFS_woFilter_w2: not ranked")
    add("--single_chain_max_step", type=positive, metavar="N",
        help="deepest node of a chain; a step is three deep: thought, action, input")
    add("--max_query_count", type=positive, metavar="N", help="DFS: calls of the model for a query")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser, "run")
    add("--num_thread", type=auto_or_positive, metavar="N",
        help=f"queries at once in each replica; auto: what its KV cache is expected to carry, at most {MAX_RUNNING} "
        f"({CPU_CONVERSATIONS} on the CPU); "
        "4 with --engine generate, which serves one request at a time, 32 with --engine server")
    add("--generation_timeout", type=seconds, metavar="S",
        help="longest generation, in seconds; a query that meets a limit fails, and the next run tries it again")
    add("--step_timeout", type=seconds, metavar="S", help="longest step: thought, action, input")
    add("--query_timeout", type=seconds, metavar="S", help="longest query")
    add("--replica_timeout", type=seconds, metavar="S",
        help="a replica that makes no progress for this long is considered hung: it is started again, and its queries "
        "go back to the others")
    add("--fail_after", type=not_negative, metavar="N",
        help="end the run when this many queries in a row have failed; 0: never")
    add("--disable_tqdm", action="store_true", help="no progress bar; a line now and then")
    add("--exit_with_parent", type=positive, metavar="PID", help="stop when the process with this id has ended")


def _add_other_backbone_options(parser: argparse.ArgumentParser) -> None:
    add = _adder(parser, "other backbones, from a ToolGen checkout")
    add("--chatgpt_model", metavar="NAME", help="model of chatgpt_function")
    add("--base_url", metavar="URL", help="its server")
    add("--openai_key", metavar="KEY", help="its key (default: $OPENAI_KEY)")
    add("--lora", action="store_true", help="toolllama with LoRA weights")
    add("--lora_path", metavar="PATH", help="those weights")
    add("--max_source_sequence_length", type=positive, metavar="N", help="accepted, without effect")
# fmt: on


def _adder(parser: argparse.ArgumentParser, title: str) -> Callable[..., Any]:
    """Return what adds a flag to a new group, with the default that the configuration has."""
    group = parser.add_argument_group(title)
    return lambda flag, **settings: group.add_argument(flag, default=DEFAULTS[flag.lstrip("-")], **settings)
