"""The models that a run may use: ToolGen's own agents, and those that come with a ToolGen checkout."""

from __future__ import annotations

import copy
import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from evaluation.toolbench.inference.Downstream_tasks.options import AUTO, TOOLGEN_BACKBONES, server_settings
from evaluation.toolbench.inference.engine import ENGINES
from evaluation.toolbench.inference.errors import ConfigError

if TYPE_CHECKING:
    from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
    from evaluation.toolbench.inference.toolgen.agent_parts import Serving

_LLM = "evaluation.toolbench.inference.LLM"


@runtime_checkable
class ManyQueries(Protocol):
    """A model that serves several queries at once, each through a sibling, as the ToolGen agents do."""

    def for_query(self, query_id: str) -> Any: ...


@runtime_checkable
class KeepsConversation(Protocol):
    """A model that keeps something for its query, such as a KV cache."""

    def finish_query(self) -> None: ...


def make_backbone(args: Any, *, num_gpus: int, serving: Serving | None = None) -> Any:
    """Load the model that `--backbone_model` names, or return the name of one that every query makes anew.

    `num_gpus` and `serving` are for the ToolGen agents, the only ones that a run places and watches.
    """
    name: str = args.backbone_model
    if name in TOOLGEN_BACKBONES:
        settings = _toolgen_arguments(args, num_gpus, serving)
        if name == "toolgen":
            return _toolgen_class("toolgen", "ToolGen")(args.model_path, indexing=args.indexing, **settings)
        return _toolgen_class("toolgen_atomic", "ToolGenAtomic")(args.model_path, **settings)
    if name == "toolllama" and args.lora:
        return checkout_class("tool_llama_lora_model", "ToolLLaMALoRA")(
            base_name_or_path=args.model_path,
            model_name_or_path=args.lora_path,
            max_sequence_length=args.max_sequence_length,
        )
    if name == "toolllama":
        return checkout_class("tool_llama_model", "ToolLLaMA")(
            model_name_or_path=args.model_path, max_sequence_length=args.max_sequence_length
        )
    if name == "toolchat":
        return checkout_class("tool_chat_model", "ToolChatModel")(
            model_name_or_path=args.model_path, template=args.template
        )
    return name


def conversation_of(backbone: Any, query_id: str | int, args: Any, openai_key: str) -> Any:
    """Return the model as one query may use it: what it keeps of a conversation is that query's own."""
    if backbone == "chatgpt_function":
        return checkout_class("chatgpt_function_model", "ChatGPTFunction")(
            model=args.chatgpt_model, openai_key=openai_key, base_url=args.base_url
        )
    if backbone == "davinci":
        model = os.environ.get("CHAT_MODEL") or "gpt-3.5-turbo-16k-0613"
        return checkout_class("davinci_model", "Davinci")(model=model, openai_key=openai_key)
    if isinstance(backbone, ManyQueries):
        return backbone.for_query(str(query_id))
    return copy.copy(backbone)  # the checkout's models are given each conversation anew; the weights stay shared


def end_conversation(llm: Any) -> None:
    """Let the model give back what it keeps for a conversation that is over."""
    if isinstance(llm, KeepsConversation):
        llm.finish_query()


def engine_options(args: Any, spec: ReplicaSpec) -> dict[str, Any]:
    """Keyword arguments of the engine that `--engine` names, for this replica's memory and conversations."""
    if args.engine == "server":
        return {"settings": server_settings(args)}
    if args.engine not in ("auto", "paged"):
        return {}
    options = {"max_running": spec.most_conversations if args.num_thread == AUTO else int(args.num_thread)}
    return options if spec.max_kv_bytes is None else {**options, "max_kv_bytes": spec.max_kv_bytes}


def device_map_of(backbone: Any) -> dict[str, Any]:
    """Module -> device of a loaded model, `{}` for what has none."""
    return dict(getattr(getattr(backbone, "model", None), "hf_device_map", None) or {})


def checkout_class(module: str, name: str) -> Any:
    """A class of the checkout's `LLM/<module>.py`. ConfigError where there is no checkout, or a package is missing."""
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
    """One of our own agents."""
    return getattr(importlib.import_module(f"{_LLM}.{module}"), name)


def _toolgen_arguments(args: Any, num_gpus: int, serving: Serving | None) -> dict[str, Any]:
    """Collect what the command line says of an agent; ConfigError, before minutes of loading, for an unknown engine."""
    if args.engine not in ENGINES:
        raise ConfigError(f"unknown --engine {args.engine}: use {', '.join(ENGINES)}")
    return {
        "template": args.template,
        "max_sequence_length": args.max_sequence_length,
        "num_gpus": num_gpus,
        "max_gpu_memory": args.max_gpu_memory,
        "cpu_offloading": args.cpu_offloading,
        "data_dir": args.data_dir,
        "engine": args.engine,
        "dtype": args.dtype,
        "system_prompt_file": args.system_prompt_file,
        "prompt_layout": args.prompt_layout,
        "restrict_actions": args.restrict_actions,
        "max_new_tokens": args.max_new_tokens,
        "seed": args.seed,
        "serving": serving,
    }
