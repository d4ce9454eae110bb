"""Finds the files of a model from the path or name that a user gives."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.multi_gpu.hub import snapshot_of
from evaluation.toolbench.json_input import JsonError, parse_object, read_file

logger = logging.getLogger(__name__)

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")  # one slash at most
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024  # bytes


@dataclass(frozen=True)
class ModelFiles:
    """Names local folders: `folder` has config and weights, `tokenizer_folder` the tokenizer.

    `adapter` is the folder of a LoRA adapter that is to be merged into those weights; most models have none.
    """

    name: str
    folder: Path
    tokenizer_folder: Path
    adapter: Path | None = None


def local_folder(model_path: str) -> Path | None:
    """Return the folder that `model_path` names, None for the name of a model on the Hub.

    DataError for what can only be a path and is not a folder.
    """
    path = Path(model_path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"{path} is a file; give the folder that holds config.json and the weights")
    if not _HUB_NAME.fullmatch(model_path):
        raise DataError(
            f"no model folder at {path.absolute()}: give one that holds config.json and the weights, or a name on the "
            "Hub, such as reasonwang/ToolGen-Llama-3-8B"
        )
    return None


def find_model(model_path: str, *, weights: bool = True) -> ModelFiles:
    """Find the files of the model that `model_path` names; of one of the Hub, in the cache or by downloading them.

    Without `weights` only what describes the model is looked for. DataError in one line for what is not a model.
    """
    own = local_folder(model_path)
    folder = own or snapshot_of(model_path, weights=weights)
    refuse_pointers(folder)
    name = folder.name if own else model_path
    if not _is_adapter(folder):
        return ModelFiles(name, folder, _tokenizer_folder(folder))
    base = _base_of(folder, weights=weights)
    tokenizer = folder if has_tokenizer(folder) else _tokenizer_folder(base)
    return ModelFiles(name, base, tokenizer, adapter=folder)


def refuse_pointers(folder: Path) -> None:
    """Raise DataError for a file that was cloned without git-lfs: a few lines that name it take its place."""
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        pointers = [path for path in files if path.stat().st_size < _LONGEST_POINTER and _is_pointer(path)]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    if pointers:
        others = f" (and {len(pointers) - 1} more)" if len(pointers) > 1 else ""
        raise DataError(
            f"{pointers[0]}{others} is a git-lfs pointer, not the file itself: run `git lfs pull` in {folder}, or "
            "download the model again",
            pointers=[path.name for path in pointers],
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_POINTER)) == _POINTER


def has_tokenizer(folder: Path) -> bool:
    """Return whether a tokenizer of any kind lies in the folder."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _tokenizer_folder(folder: Path) -> Path:
    """Return the folder itself, or the one above: a training run saves the tokenizer once, beside its
    `checkpoint-N`.
    """
    if has_tokenizer(folder) or not has_tokenizer(above := folder.resolve().parent):
        return folder
    logger.info("the tokenizer of %s is taken from %s", folder, above)
    return above


def _is_adapter(folder: Path) -> bool:
    own = {path for pattern in _WEIGHT_FILES for path in folder.glob(pattern) if path.name not in _ADAPTER_WEIGHTS}
    return (folder / "adapter_config.json").is_file() and not own


def _base_of(adapter: Path, *, weights: bool) -> Path:
    base = _adapter_config(adapter).get("base_model_name_or_path")
    where = f"{adapter} is a LoRA adapter for the model {base!r}"
    if not isinstance(base, str) or not base:
        raise DataError(f"{adapter} is a LoRA adapter that names no model: set base_model_name_or_path in its config")
    try:
        folder = local_folder(base) or snapshot_of(base, weights=weights)
    except DataError as error:
        raise DataError(
            f"{where}: {error}. Correct base_model_name_or_path in {adapter}/adapter_config.json"
        ) from error
    refuse_pointers(folder)
    if _is_adapter(folder):
        raise DataError(f"{where}, which is an adapter itself: merge that one into its model first")
    return folder


def _adapter_config(adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    try:
        return parse_object(read_file(path))
    except (OSError, JsonError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
