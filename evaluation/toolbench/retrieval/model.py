"""Reads what an evaluation has to know of a checkpoint before it loads, and what tells it from another one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.multi_gpu.dtypes import resolve_dtype
from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
from evaluation.toolbench.inference.multi_gpu.model_files import find_model
from evaluation.toolbench.inference.toolgen.checkpoint_sampling import read_generation_config
from evaluation.toolbench.retrieval.beam_search import SearchRules

_MAX_NEW_TOKENS = 64  # of ToolGen's search


def search_rules(model_path: str, end_id: int) -> SearchRules:
    """Return ToolGen's search with what the checkpoint's generation_config.json says of it."""
    settings: Any = read_generation_config(model_path)
    return SearchRules(
        end_id,
        _MAX_NEW_TOKENS,
        length_penalty=1.0 if settings.length_penalty is None else float(settings.length_penalty),
        early_stopping=settings.early_stopping or False,
        repetition_penalty=1.0 if settings.repetition_penalty is None else float(settings.repetition_penalty),
    )


def fingerprint_of(model_path: str) -> str:
    """Return a digest that changes when the checkpoint's files do."""
    files = find_model(model_path, weights=False)
    digest = hashlib.sha256()
    for folder in (files.folder, files.tokenizer_folder, files.adapter):
        for path in sorted(folder.iterdir()) if folder is not None else ():
            if _is_part_of_model(path):
                found = path.stat()
                digest.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def dtype_name(dtype: str) -> str:
    """Return the dtype that `--dtype` comes to on this machine."""
    return str(resolve_dtype(dtype, visible_gpus() or None)).removeprefix("torch.")


def _is_part_of_model(path: Path) -> bool:
    return path.suffix in (".json", ".safetensors", ".bin", ".model") and path.is_file()
