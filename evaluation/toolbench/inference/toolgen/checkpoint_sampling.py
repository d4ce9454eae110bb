"""Reads how a checkpoint asks to be drawn from: what `generate` takes from its generation_config.json.

ToolGen leaves these settings to `generate`, so they are part of what its numbers were made with. Its calls set the
temperature themselves, and whether to sample at all.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.engine.request import Sampling
from evaluation.toolbench.inference.errors import DataError, EngineError
from evaluation.toolbench.inference.multi_gpu.model_files import find_model
from evaluation.toolbench.inference.toolgen.agent_options import GenerationSettings

if TYPE_CHECKING:
    from transformers import GenerationConfig

logger = logging.getLogger(__name__)

_FILE = "generation_config.json"
_REMEDY = "mend it, or leave it out with --generation_config ignore"
_TOP_K = 50  # where the file is silent; transformers' default for GenerationConfig.top_k
# Settings that change what `generate` draws, with the values that switch them off. None of our engines has them.
_NOT_APPLIED = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "guidance_scale": 1.0,
    "min_new_tokens": 0,
    "min_p": 0.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "sequence_bias": None,
    "suppress_tokens": None,
    "typical_p": 1.0,
}


def checkpoint_sampling(model_path: str, settings: GenerationSettings, *, warns: bool = True) -> Sampling:
    """Return greedy `Sampling` with the checkpoint's repetition penalty, top_k and top_p; plain one for "ignore".

    DataError for a file that cannot be read or used. Settings of it that no engine here has are a warning.
    """
    if settings == "ignore":
        return Sampling()
    config = read_generation_config(model_path)
    unused = [name for name, off in _NOT_APPLIED.items() if getattr(config, name, None) not in (None, off)]
    if unused and warns:
        logger.warning(f"{_FILE} of {model_path} sets {', '.join(unused)}, which no engine here applies")
    try:
        return Sampling(
            repetition_penalty=1.0 if config.repetition_penalty is None else float(config.repetition_penalty),
            top_k=_TOP_K if config.top_k is None else config.top_k,
            top_p=1.0 if config.top_p is None else float(config.top_p),
        )
    except (EngineError, TypeError, ValueError) as error:
        raise DataError(
            f"{_FILE} of {model_path} cannot be used: {error}. --generation_config ignore leaves it out"
        ) from error


def read_generation_config(model_path: str) -> GenerationConfig:
    """Read the file; without one config.json, where old checkpoints have their settings, as transformers does.

    DataError for one that cannot be read.
    """
    from transformers import GenerationConfig

    folder = find_model(model_path, weights=False).folder
    for name in (_FILE, "config.json"):
        if (folder / name).is_file():
            try:
                return GenerationConfig.from_pretrained(str(folder), name, local_files_only=True)
            except (OSError, ValueError, TypeError) as error:
                raise DataError(f"cannot read {folder / name}: {error}: {_REMEDY}") from error
    return GenerationConfig()  # the model cannot be loaded either, which says why
