"""Loads the models that a run may use: ToolGen's own agents, and those that come with a ToolGen checkout."""

from __future__ import annotations

import copy
import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from evaluation.toolbench.inference.Downstream_tasks.config import CheckoutConfig, ModelConfig, RunConfig
from evaluation.toolbench.inference.Downstream_tasks.options import server_settings
from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.replicas.layout import RunLayout, one_replica

if TYPE_CHECKING:
    from evaluation.toolbench.inference.replicas.replica import Replica
    from evaluation.toolbench.inference.toolgen.agent_parts import Serving

_LLM = "evaluation.toolbench.inference.LLM"


@runtime_checkable
class ManyQueries(Protocol):
    """Serves several queries at once, each through a sibling, as the ToolGen agents do."""

    def for_query(self, query_id: str) -> Any: ...


@runtime_checkable
class KeepsConversation(Protocol):
    """Keeps something for its query, such as a KV cache."""

    def finish_query(self) -> None: ...


def make_backbone(config: RunConfig, *, num_gpus: int, serving: Serving | None = None) -> Any:
    """Load the model that `--backbone_model` names, or return the name of one that every query makes anew.

    `num_gpus` and `serving` are for the ToolGen agents, the only ones that a run places and watches.
    """
    model, checkout = config.model, config.checkout
    name = model.backbone_model
    if name == "toolgen":
        settings = _toolgen_settings(config, num_gpus, serving)
        return _toolgen_class("toolgen", "ToolGen")(
            model.model_path, indexing=model.indexing, indexing_file=model.indexing_file, **settings
        )
    if name == "toolgen_atomic":
        settings = _toolgen_settings(config, num_gpus, serving)
        return _toolgen_class("toolgen_atomic", "ToolGenAtomic")(model.model_path, **settings)
    if name == "toolllama" and checkout.lora:
        return checkout_class("tool_llama_lora_model", "ToolLLaMALoRA")(
            base_name_or_path=model.model_path,
            model_name_or_path=checkout.lora_path,
            max_sequence_length=model.max_sequence_length,
        )
    if name == "toolllama":
        return checkout_class("tool_llama_model", "ToolLLaMA")(
            model_name_or_path=model.model_path, max_sequence_length=model.max_sequence_length
        )
    if name == "toolchat":
        return checkout_class("tool_chat_model", "ToolChatModel")(
            model_name_or_path=model.model_path, template=model.template
        )
    return name


def layout_for(config: RunConfig, num_queries: int, workload: Workload | None = None) -> RunLayout:
    """Choose the replicas of a run over `num_queries` queries; a model that is not ours to place has one.

    `workload` describes queries that are not conversations.
    """
    from evaluation.toolbench.inference.replicas.choice import choose_layout

    model, wanted = config.model, config.gpus.num_replicas
    if model.is_toolgen and model.engine != "server":
        return choose_layout(
            model.model_path,
            config.gpus,
            workload or conversations_of(config, num_queries),
            NumberFormats(model.dtype, model.weights, model.kv_cache),
        )
    if wanted not in (AUTO, 1):
        reason = "the server has" if model.engine == "server" else f"--backbone_model {model.backbone_model} loads"
        raise ConfigError(f"--num_replicas {wanted}: {reason} the model by itself; use 1 or auto")
    return one_replica()


def conversations_of(config: RunConfig, num_queries: int) -> Workload:
    """Return what a run over `num_queries` queries is to its replicas."""
    at_once = MAX_RUNNING if config.num_thread == AUTO else int(config.num_thread)
    return Workload(at_once, config.model.max_sequence_length, max(num_queries, 1))


def model_for_query(backbone: Any, query_id: str | int, checkout: CheckoutConfig) -> Any:
    """Return the model as one query may use it: what it keeps of a conversation is that query's own."""
    if backbone == "chatgpt_function":
        return checkout_class("chatgpt_function_model", "ChatGPTFunction")(
            model=checkout.chatgpt_model, openai_key=checkout.openai_key, base_url=checkout.base_url
        )
    if backbone == "davinci":
        model = os.environ.get("CHAT_MODEL") or "gpt-3.5-turbo-16k-0613"
        return checkout_class("davinci_model", "Davinci")(model=model, openai_key=checkout.openai_key)
    if isinstance(backbone, ManyQueries):
        return backbone.for_query(str(query_id))
    return copy.copy(backbone)  # the checkout's models are given each conversation anew; the weights stay shared


def end_conversation(llm: Any) -> None:
    """Let the model give back what it keeps for a conversation that is over."""
    if isinstance(llm, KeepsConversation):
        llm.finish_query()


def engine_options(config: RunConfig, replica: Replica) -> dict[str, Any]:
    """Return the arguments of the engine that `--engine` names, for this replica's memory and conversations."""
    spec = replica.spec
    if config.model.engine == "server":
        return {"settings": server_settings(config.model)}
    if config.model.engine not in (AUTO, "paged"):
        return {}
    options = {
        "max_running": spec.most_running(None if config.num_thread == AUTO else int(config.num_thread)),
        "before_compiling": replica.watch.begin_compiling,
    }
    return options if spec.max_kv_bytes is None else {**options, "max_kv_bytes": spec.max_kv_bytes}


def device_map_of(backbone: Any) -> dict[str, Any]:
    """Return module -> device of a loaded model, `{}` for one without a map."""
    return dict(getattr(getattr(backbone, "model", None), "hf_device_map", None) or {})


def sampling_of(model: ModelConfig) -> dict[str, float]:
    """Return what the checkpoint's generation settings make hold of every generation; `{}` for the checkout's models.

    `top_k` (0: off) and `top_p` matter at temperatures above 0 only.
    """
    if not model.is_toolgen:
        return {}
    from evaluation.toolbench.inference.toolgen.checkpoint_sampling import checkpoint_sampling

    sampling = checkpoint_sampling(model.model_path, model.generation_config, warns=False)
    return {name: getattr(sampling, name) for name in ("repetition_penalty", "top_k", "top_p")}


def checkout_class(module: str, name: str) -> Any:
    """Import a class of the checkout's `LLM/<module>.py`. ConfigError without a checkout or one of its packages."""
    path = f"{_LLM}.{module}"
    try:
        return getattr(importlib.import_module(path), name)
    except ModuleNotFoundError as error:
        if error.name and path.startswith(error.name):
            raise ConfigError(
                f"{name} is part of a ToolGen checkout, and this tree lies in none: copy it over one, "
                "or use --backbone_model toolgen_atomic or toolgen"
            ) from error
        raise ConfigError(
            f"{name} of the ToolGen checkout needs the Python package {error.name}: "
            "pip install -r requirements-checkout.txt has what the checkout's own files need"
        ) from error


def _toolgen_class(module: str, name: str) -> Any:
    """Import one of our own agents."""
    return getattr(importlib.import_module(f"{_LLM}.{module}"), name)


def _toolgen_settings(config: RunConfig, num_gpus: int, serving: Serving | None) -> dict[str, Any]:
    """Collect what our own agents are told beside the checkpoint and its indexing."""
    model, gpus = config.model, config.gpus
    return {
        "template": model.template,
        "max_sequence_length": model.max_sequence_length,
        "num_gpus": num_gpus,
        "max_gpu_memory": gpus.max_gpu_memory,
        "cpu_offloading": gpus.cpu_offloading,
        "data_dir": config.tools.data_dir,
        "engine": model.engine,
        "dtype": model.dtype,
        "weights": model.weights,
        "kv_cache": model.kv_cache,
        "system_prompt_file": model.system_prompt_file,
        "prompt_layout": model.prompt_layout,
        "restrict_actions": model.restrict_actions,
        "max_new_tokens": model.max_new_tokens,
        "seed": model.seed,
        "generation_config": model.generation_config,
        "serving": serving,
    }
