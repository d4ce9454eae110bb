"""Collects the settings that decide what a run answers, so that a resumed run can be held to the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluation.toolbench.checkout import repository_root
from evaluation.toolbench.inference.Downstream_tasks.api_caller import simulator_of
from evaluation.toolbench.inference.Downstream_tasks.config import LOCAL_BACKBONES, ModelConfig, RunConfig, ToolConfig
from evaluation.toolbench.inference.errors import ConfigError, DataError, ToolGenError
from evaluation.toolbench.inference.multi_gpu.checkpoint_identity import checkpoint_identity
from evaluation.toolbench.inference.multi_gpu.model_files import local_folder
from evaluation.toolbench.inference.run.earlier_answers import earlier_answers, in_words
from evaluation.toolbench.inference.toolgen.prompts import load_prompt_texts, text_digest

# Every flag is in one of the two lists.
DECISIVE = (
    *("method", "single_chain_max_step", "max_query_count"),
    *(
        "model_path",
        "backbone_model",
        "template",
        "indexing",
        "dtype",
        "weights",
        "kv_cache",
        "seed",
        "generation_config",
    ),
    *("max_new_tokens", "max_sequence_length", "restrict_actions", "prompt_layout", "engine_model"),
    *("function_provider", "corpus_tsv_path", "retrieval_model_path", "retrieved_api_nums"),
    *("use_rapidapi_key", "api_customization", "max_observation_length", "observ_compress_method"),
    *("chatgpt_model", "lora", "lora_path"),
)
INDIFFERENT = (
    # Which queries, and what happens to the answers. Texts are compared with those in the answers themselves.
    *("input_query_file", "output_answer_file", "replace_file", "limit", "query_ids", "shard"),
    *("overwrite", "mix_settings", "dry_run"),
    # Where things lie; what they hold is compared.
    *("data_dir", "tool_root_dir", "system_prompt_file", "indexing_file"),
    # Keys and addresses.
    *("toolbench_key", "rapidapi_key", "openai_key", "base_url", "engine_url"),
    # How fast, where and for how long.
    *("engine", "engine_wait", "engine_constraints", "num_gpus", "max_gpu_memory", "cpu_offloading", "num_replicas"),
    *("num_thread", "generation_timeout", "step_timeout", "query_timeout", "replica_timeout", "fail_after"),
    *("disable_tqdm", "exit_with_parent", "max_source_sequence_length"),
)


def answer_settings(config: RunConfig) -> dict[str, Any]:
    """Return the flags that decide the answers, and digests of what they name; None for what cannot be told."""
    flags, model = config.flags(), config.model
    settings = {name: flags[name] for name in DECISIVE}
    if model.backbone_model in LOCAL_BACKBONES:
        settings["checkpoint"] = _told(lambda: _checkpoint(model.model_path))
    if model.is_toolgen:
        settings["system_prompt"] = _told(lambda: _system_prompt(model))
        settings["tools"] = _told(lambda: _tools(config.tools, model))
    settings["simulator"] = _told(lambda: _simulator(config.tools))
    return settings


def mixed_settings(
    config: RunConfig,
    settings: Mapping[str, Any],
    folder: Path,
    other_texts: Sequence[str],
    replaced: Collection[str] = (),
) -> list[str]:
    """Return how the answers that stay in the folder differ from what this run makes; ConfigError unless allowed.

    `settings` are the run's, `other_texts` are the queries that were answered with another text, `replaced` those whose
    answers go.
    """
    earlier = earlier_answers(folder, settings, replaced=replaced)
    found = [*earlier.differences, *in_words(other_texts)]
    if found and not (config.overwrite or config.mix_settings):
        raise ConfigError(
            f"the answers in {folder} were made with other settings ({'; '.join(found)}): pass another "
            "--output_answer_file (OUTPUT_DIR), --overwrite to replace them, or --mix_settings to go on beside them",
            differences=found,
        )
    return list(dict.fromkeys([*earlier.mixed, *found]))


def _told(digest: Callable[[], str | None]) -> str | None:
    with suppress(ToolGenError, OSError):  # whoever needs what is missing says so
        return digest()
    return None


def _checkpoint(model_path: str) -> str | None:
    """Return the identity of a folder, or of what the cache has of a model of the Hub."""
    folder = local_folder(model_path)
    if folder is None:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(model_path, local_files_only=True))
        except Exception as error:  # the client has an error of its own for each way not to have it
            raise DataError(f"{model_path} is not in the cache") from error
    return checkpoint_identity(folder)


def _simulator(tools: ToolConfig) -> str | None:
    state = simulator_of(tools)
    return None if state is None else state.setting


def _system_prompt(model: ModelConfig) -> str:
    texts = load_prompt_texts(
        indented=model.backbone_model == "toolgen",
        root=repository_root(),
        system_prompt_file=model.system_prompt_file,
    )
    return text_digest(f"{texts.system}\0{texts.finish_description}")


def _tools(tools: ToolConfig, model: ModelConfig) -> str:
    """Return the digest of the tools' documentation and of how the model writes their names."""
    folder = Path(tools.data_dir)
    indexing = model.indexing or "Atomic"
    names = folder / ("virtual_tokens.txt" if indexing == "Atomic" else f"toolenv/Tool2{indexing}Id.json")
    if model.indexing_file:
        names = Path(model.indexing_file)
    digest = hashlib.sha256()
    for path in (folder / "toolenv/tools/tools.json", names):
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()[:16]
