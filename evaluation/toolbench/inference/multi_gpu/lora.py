"""Merges a LoRA adapter into its model, with the package peft, which is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.multi_gpu.model_files import ModelFiles

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def merged_model(
    files: ModelFiles, config: PretrainedConfig, *, dtype: torch.dtype, device_map: Any, max_memory: Any = None
) -> PreTrainedModel:
    """Return the model of `files` with the adapter merged in, on the devices of `device_map`.

    It is merged in main memory, which has to hold the model: an embedding may get more rows, as a tool set's tokens
    need. `config` says how many. ConfigError where peft is not installed, DataError for an adapter that does not fit.
    """
    try:
        from peft import PeftModel
    except ImportError:
        raise ConfigError(
            f"{files.adapter} is a LoRA adapter for {files.folder}, and merging it needs a package: pip install peft, "
            "or merge it yourself and give the merged model"
        ) from None
    from transformers import AutoModelForCausalLM

    try:
        base = AutoModelForCausalLM.from_pretrained(str(files.folder), dtype=dtype, local_files_only=True)
        rows = int(config.get_text_config().vocab_size)
        if rows != base.get_input_embeddings().weight.shape[0]:
            base.resize_token_embeddings(rows, mean_resizing=False)
        model = PeftModel.from_pretrained(base, str(files.adapter)).merge_and_unload()
    except Exception as error:  # transformers and peft raise what they like over a broken adapter
        what = " ".join(str(error).split())[:300]
        raise DataError(f"cannot merge {files.adapter} into {files.folder}: {type(error).__name__}: {what}") from error
    return moved(model, device_map, max_memory)


def moved(model: PreTrainedModel, device_map: Any, max_memory: Any = None) -> PreTrainedModel:
    """Return a model from main memory on the devices of `device_map`."""
    from accelerate import dispatch_model, infer_auto_device_map

    if device_map == "auto":
        device_map = infer_auto_device_map(
            model, max_memory=max_memory, no_split_module_classes=sorted(model._no_split_modules or ())
        )
    if set(device_map) == {""}:
        return model.to(device_map[""])
    return dispatch_model(model, device_map)
