"""Makes an agent's parts from a checkpoint and options; what is wrong with them is found before weights load."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from transformers import AutoTokenizer, PreTrainedModel

from evaluation.toolbench.checkout import repository_root
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.kv_format import require_pages
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.engine.request import Engine, Sampling
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.multi_gpu.checkpoint import read_config
from evaluation.toolbench.inference.multi_gpu.loading import gpu_budgets, load_model, load_replica
from evaluation.toolbench.inference.multi_gpu.model_files import find_model, has_tokenizer
from evaluation.toolbench.inference.multi_gpu.number_formats import require_own_weights
from evaluation.toolbench.inference.multi_gpu.replica_plan import PlannedReplica
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions, GenerationSettings, Restriction
from evaluation.toolbench.inference.toolgen.checkpoint_sampling import checkpoint_sampling
from evaluation.toolbench.inference.toolgen.language import ToolLanguage
from evaluation.toolbench.inference.toolgen.server_needs import needs_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """Says how a model is served that is one of several, or whose run watches over it."""

    placement: PlannedReplica | None = None  # where the plan puts it; None: where `load_model` does
    engine_options: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of the engine
    wrap_engine: Callable[[Engine], Engine] | None = None  # puts something between the agent and the engine


class MoreOptions(TypedDict, total=False):
    """Lists what both agents take beside ToolGen's own arguments. The first eight are fields of AgentOptions."""

    indexing_file: str | Path | None  # of `ToolGen` alone
    data_dir: str | Path | None
    system_prompt_file: str | Path | None
    prompt_layout: str
    restrict_actions: Restriction
    max_new_tokens: int
    seed: int
    generation_config: GenerationSettings
    engine: str  # "auto", "paged", "generate" or "server"
    dtype: str  # "auto": bfloat16 on a GPU, float32 on the CPU
    weights: str  # of the decoder's linear layers: "auto", as `dtype`; "int8"; "fp8"
    kv_cache: str  # keys and values: "auto", as `dtype`; "fp8"
    serving: Serving | None


def load_agent_parts(
    model_path: str,
    *,
    indented_prompt: bool,
    device: str,
    cpu_offloading: bool,
    num_gpus: int,
    max_gpu_memory: str | Mapping[int, str] | None,
    engine: str = "auto",
    dtype: str = "auto",
    weights: str = "auto",
    kv_cache: str = "auto",
    serving: Serving | None = None,
    **agent_options: Any,
) -> tuple[ToolLanguage, PreTrainedModel | None, Engine, Sampling]:
    """Load the language, the model with its engine as `load_engine` makes them, and the checkpoint's sampling.

    `agent_options` are fields of AgentOptions.
    """
    options = AgentOptions(**agent_options)
    config = read_config(model_path)
    sampling = checkpoint_sampling(model_path, options.generation_config)
    language = ToolLanguage(load_tokenizer(model_path), options, indented_prompt=indented_prompt)
    language.actions.check_rows(config.get_text_config().vocab_size)
    if language.texts.own and not is_bundled(model_path):
        logger.warning(
            f"{' and '.join(language.texts.own)} of ToolGen were not found, and our own wording stands in, with which "
            f"{model_path} was hardly trained: unpack this package over a ToolGen checkout or give --system_prompt_file"
        )
    model, made = load_engine(
        model_path,
        lambda: needs_of(model_path, config, language),
        engine=engine,
        dtype=dtype,
        weights=weights,
        kv_cache=kv_cache,
        device=device,
        cpu_offloading=cpu_offloading,
        num_gpus=num_gpus,
        max_gpu_memory=max_gpu_memory,
        serving=serving or Serving(),
    )
    return language, model, made, sampling


def load_engine(
    model_path: str,
    needs: Callable[[], Needs],
    *,
    engine: str,
    dtype: str,
    weights: str = "auto",
    kv_cache: str = "auto",
    device: str,
    cpu_offloading: bool,
    num_gpus: int,
    max_gpu_memory: str | Mapping[int, str] | None,
    serving: Serving,
) -> tuple[PreTrainedModel | None, Engine]:
    """Load the model where `serving` or `load_model` puts it, and the engine of that name over it.

    A placement of `serving` says itself for which format of `weights` it was planned. With the engine "server" no
    weights are read and the model is None; its options are the `settings`, and the servers have to meet `needs`.
    """
    model: PreTrainedModel | None = None
    require_own_weights(weights, engine=engine)
    require_pages(kv_cache, engine)
    engine_options = dict(serving.engine_options)
    if kv_cache != "auto":
        engine_options["kv_cache"] = kv_cache
    if engine == "server":
        if "settings" not in engine_options:
            raise ConfigError("the engine 'server' needs the URL of one: --engine_url, or its option `settings`")
        engine_options["needs"] = needs()
    elif serving.placement is not None:
        model = load_replica(model_path, serving.placement, dtype=dtype)
    else:
        is_limited = max_gpu_memory is not None and device == "cuda" and torch.cuda.is_available()
        if is_limited and engine in ("auto", "paged"):
            engine_options.setdefault("max_gpu_bytes", gpu_budgets(num_gpus, max_gpu_memory))
        model = load_model(
            model_path,
            num_gpus=num_gpus,
            max_gpu_memory=max_gpu_memory,
            device=device,
            cpu_offloading=cpu_offloading,
            dtype=dtype,
            weights=weights,
        )
    made = make_engine(engine, model, **engine_options)
    return model, serving.wrap_engine(made) if serving.wrap_engine else made


def load_tokenizer(model_path: str) -> Any:
    """Load the tokenizer saved beside the checkpoint, or in the folder above; DataError when there is none."""
    files = find_model(model_path, weights=False)
    folder = files.tokenizer_folder
    if not has_tokenizer(folder):
        raise DataError(f"no tokenizer in {files.folder}, nor in the folder above: copy tokenizer.json there")
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception for files that it cannot read
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"cannot load the tokenizer of {model_path}: {reason}") from error


def is_bundled(model_path: str) -> bool:
    """Return whether this is the bundled model, which was trained with our own texts."""
    return Path(model_path).resolve() == repository_root() / "evaluation/toolbench/demo/model"
