"""Holds what a run is told: one frozen dataclass per layer, whose fields are named as the flags are.

The command line takes its defaults from here (`options`). `RunConfig.of` is the face for callers who hand in an
argparse Namespace, such as one with ToolGen's own flags alone: what it lacks has its default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.methods import parse_method
from evaluation.toolbench.inference.engine import ENGINES, SERVER_WAIT_S
from evaluation.toolbench.inference.engine.kv_format import check_kv_cache
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, AutoOr, GpuConfig
from evaluation.toolbench.inference.multi_gpu.number_formats import check_weights
from evaluation.toolbench.inference.records.queries import Shard
from evaluation.toolbench.inference.replicas.limits import Patience, TimeLimits
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions, GenerationSettings, Restriction
from evaluation.toolbench.inference.toolgen.catalog import default_data_dir

BACKBONES = ("toolgen_atomic", "toolgen", "toolchat", "toolllama", "chatgpt_function", "davinci")
_KEYS = ("toolbench_key", "rapidapi_key", "openai_key")  # TOOLBENCH_KEY and so on in the environment
LOCAL_BACKBONES = ("toolgen_atomic", "toolgen", "toolchat", "toolllama")  # those with a folder of weights
TOOLGEN_BACKBONES = ("toolgen_atomic", "toolgen")

OneOrMore = str | tuple[str, ...]

# Conversations at once for --num_thread auto where no KV cache of ours says how many it holds. `generate` serves
# one request at a time, so a few are enough to have one ready while others wait for an API.
_CONVERSATIONS = {AUTO: 4, "generate": 4, "server": 32}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Names the model, what it is asked for, and the engine that serves it."""

    backbone_model: str = "toolllama"
    model_path: str = "your_model_path/"
    template: str = ""  # the ToolGen agents': llama-3
    indexing: str = ""
    indexing_file: str | None = None
    dtype: str = AUTO
    weights: str = AUTO  # of the decoder's linear layers: as `dtype`, or "int8" or "fp8"
    kv_cache: str = AUTO  # keys and values: as `dtype`, or "fp8"
    max_new_tokens: int = AgentOptions.max_new_tokens
    max_sequence_length: int = AgentOptions.max_sequence_length
    restrict_actions: Restriction = AgentOptions.restrict_actions
    prompt_layout: str = AgentOptions.prompt_layout
    system_prompt_file: str | None = None
    seed: int = AgentOptions.seed
    generation_config: GenerationSettings = AgentOptions.generation_config
    engine: str = AUTO
    engine_url: str | None = None  # of the engine "server", as the other three
    engine_model: str | None = None
    engine_wait: float = SERVER_WAIT_S
    engine_constraints: str = AUTO

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"unknown --engine {self.engine}: use {', '.join(ENGINES)}")
        check_weights(self.weights)
        check_kv_cache(self.kv_cache)

    @property
    def is_toolgen(self) -> bool:
        """Return whether it is one of our own agents, the only ones that a run places and watches."""
        return self.backbone_model in TOOLGEN_BACKBONES


@dataclass(frozen=True, kw_only=True)
class ToolConfig:
    """Says which tools there are, and how their APIs are called."""

    data_dir: str = ""  # laid out like ToolGen's `data`
    tool_root_dir: str = ""  # <category>/<tool>.json
    function_provider: str = "truth"
    corpus_tsv_path: str | None = None
    retrieval_model_path: str | None = None
    retrieved_api_nums: int = 5
    toolbench_key: str = field(default="", repr=False)
    rapidapi_key: str = field(default="", repr=False)
    use_rapidapi_key: bool = False
    api_customization: bool = False
    max_observation_length: int = 1024  # characters
    observ_compress_method: str = "truncate"


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Says how a query is searched for an answer. ConfigError for an unknown method."""

    method: OneOrMore = "CoT@1"
    single_chain_max_step: int = 16
    max_query_count: int = 200

    def __post_init__(self) -> None:
        for method in self.methods:
            parse_method(method)

    @property
    def methods(self) -> tuple[str, ...]:
        return _each(self.method)


@dataclass(frozen=True, kw_only=True)
class CheckoutConfig:
    """Holds what only the backbones of a ToolGen checkout need."""

    chatgpt_model: str | None = None
    base_url: str = "https://api.openai.com/v1"
    openai_key: str = field(default="", repr=False)
    lora: bool = False
    lora_path: str = "your_lora_path if lora"
    max_source_sequence_length: int = 4096  # accepted, without effect


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Describes a run over queries: those of one file, or of several, which then share everything else."""

    input_query_file: OneOrMore = ""
    output_answer_file: str = ""  # a folder, despite the name; of several files, the one above their folders
    replace_file: str = ""
    limit: int | None = None  # queries of each file, its first ones
    query_ids: str = ""  # separated by commas; "": all
    shard: str = ""  # "2/4": the second of four parts of the queries
    overwrite: bool = False
    mix_settings: bool = False
    dry_run: bool = False
    num_thread: AutoOr = 1  # queries at once in each replica
    generation_timeout: float = Patience.generation_s
    step_timeout: float = 1200.0
    query_timeout: float = 3600.0
    replica_timeout: float = Patience.replica_s
    fail_after: int = 50  # failures in a row that end the run; 0: none do
    disable_tqdm: bool = False
    exit_with_parent: int | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    gpus: GpuConfig = field(default_factory=GpuConfig)
    tools: ToolConfig = field(default_factory=ToolConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    checkout: CheckoutConfig = field(default_factory=CheckoutConfig)

    @classmethod
    def of(cls, args: Any) -> RunConfig:
        """Take what `args` has of the flags; folders that are not given are the checkout's, else the demo's.

        Keys that are not given are the environment's: on a command line every user of the machine could read them.
        """
        given = {name: getattr(args, name) for name in DEFAULTS if hasattr(args, name)}
        given["data_dir"] = str(given.get("data_dir") or default_data_dir())
        given["tool_root_dir"] = str(given.get("tool_root_dir") or Path(given["data_dir"]) / "toolenv" / "tools")
        for name in _KEYS:
            given[name] = given.get(name) or os.environ.get(name.upper(), "")
        for name in {"input_query_file", "method"} & given.keys():
            given[name] = _one_or_more(given[name])
        if given.get("backbone_model") in TOOLGEN_BACKBONES:
            given["template"] = given.get("template") or AgentOptions.template
        parts = {name: part(**_pick(part, given)) for name, part in _PARTS.items()}
        return cls(**_pick(cls, given), **parts)

    def flags(self) -> dict[str, Any]:
        """Return every flag's value, by the flag's name."""
        values = vars(self)
        flat = {name: value for name, value in values.items() if name not in _PARTS}
        return flat | {name: value for part in _PARTS for name, value in vars(values[part]).items()}

    @property
    def part(self) -> Shard | None:
        """Return which of several parts of the queries is meant; ConfigError for a `shard` that cannot be read."""
        return Shard.parse(self.shard)

    @property
    def shard_name(self) -> str:
        """Return what the names of this run's files have of its part; "" for all queries."""
        return self.part.name if self.part else ""

    @property
    def query_files(self) -> tuple[str, ...]:
        return _each(self.input_query_file)

    @property
    def limits(self) -> TimeLimits:
        return TimeLimits(self.generation_timeout, self.step_timeout, self.query_timeout)

    def num_conversations(self, num_queries: int, room: int | None = None) -> int:
        """Return how many of `num_queries` a replica runs at once.

        `room` is how many its KV cache is good for, where that is known.
        """
        unasked = _CONVERSATIONS.get(self.model.engine, 1) if room is None else room
        return max(1, min(unasked if self.num_thread == AUTO else int(self.num_thread), num_queries))


_PARTS: dict[str, Any] = {
    "model": ModelConfig,
    "gpus": GpuConfig,
    "tools": ToolConfig,
    "search": SearchConfig,
    "checkout": CheckoutConfig,
}


def _one_or_more(value: Any) -> OneOrMore:
    """Take a text as it is, and a list of one for the one: a run over one file is told as ToolGen's is."""
    if isinstance(value, str | Path):
        return str(value)
    values = tuple(dict.fromkeys(map(str, value)))
    return values[0] if len(values) == 1 else values


def _each(value: OneOrMore) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _pick(cls: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: given[each.name] for each in fields(cls) if each.name in given}


DEFAULTS: Mapping[str, Any] = RunConfig().flags()
