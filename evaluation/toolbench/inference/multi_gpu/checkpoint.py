"""What a checkpoint holds, read from its config and from the headers of its safetensors files.

Nothing here reads weights: a checkpoint of any size is judged in milliseconds, and one that is
incomplete is refused before a byte goes to a GPU.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import struct
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.errors import DataError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_HEADER_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True)
class Tensor:
    """One stored tensor: `dtype` as safetensors writes it ("BF16"), `num_bytes` as stored."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A local folder, its weight files, and the tensors in them (none known for .bin files)."""

    folder: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]

    @property
    def file_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def local_folder(model_path: str) -> Path | None:
    """The folder that `model_path` names, None for the name of a model on the Hub.

    DataError for what can only be a path and is not a folder.
    """
    path = Path(model_path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"{path} is a file; give the folder that holds config.json and the weights")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", model_path):  # the Hub's names: one slash at most
        raise DataError(f"no model folder at {path.absolute()}")
    return None


def use_local_files_only(model_path: str) -> bool:
    """True when nothing may be asked of the network: a local folder, or no Hub in reach (then its cache serves).

    Looking the host name up first costs milliseconds, where the Hub's client retries for half a minute.
    """
    return local_folder(model_path) is not None or not _hub_is_in_reach()


def read_config(model_path: str) -> PretrainedConfig:
    """The model's config. DataError when there is none, or its architecture is not known here."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    folder = local_folder(model_path)
    if folder and not (folder / "config.json").is_file():
        raise DataError(f"no config.json in {folder}; is this the folder of a checkpoint?")
    try:
        local_only = use_local_files_only(model_path)
        config = AutoConfig.from_pretrained(str(folder or model_path), local_files_only=local_only)
    except Exception as error:  # configs check themselves in many ways, each with errors of its own
        if not folder and not _hub_is_in_reach():
            raise DataError(
                f"{model_path} is neither a folder here nor a downloaded model, "
                "and the Hugging Face Hub cannot be reached"
            ) from error
        raise DataError(f"cannot read the config of {model_path}: {_first_line(error)}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise DataError(
            f"{model_path} is a {config.model_type!r} model, which transformers has no text-generating class for"
        )
    return config


def read_checkpoint(folder: Path) -> Checkpoint:
    """The weight files of `folder` and their tensors. DataError when one is missing, cut off or unreadable."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = _files_of_index(index)
    elif (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    else:
        pickled = sorted(folder.glob("pytorch_model*.bin"))
        if not pickled:
            raise DataError(f"no weights in {folder}: neither model.safetensors nor its index, nor pytorch_model.bin")
        return Checkpoint(folder, tuple(pickled), {})
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(read_tensors(file))
    return Checkpoint(folder, tuple(files), tensors)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Name -> tensor of one safetensors file, from its header alone.

    The file is 8 bytes of header length (little endian), the header (JSON), then the data to which
    the header's `data_offsets` refer. DataError when the file ends before the data do.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(_HEADER_LENGTH_BYTES)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == _HEADER_LENGTH_BYTES else 0
            if not 0 < length <= min(_MAX_HEADER_BYTES, size - _HEADER_LENGTH_BYTES):
                raise DataError(f"{file} is not a complete safetensors file ({size} bytes): download it again")
            text = stream.read(length)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        tensors = {name: _tensor(entry) for name, entry in header.items()}
        data_bytes = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file} has an unreadable header ({_first_line(error)}): download it again") from error
    expected = _HEADER_LENGTH_BYTES + length + data_bytes
    if size < expected:
        raise DataError(
            f"{file} is cut off: {size:,} of its {expected:,} bytes are there; download it again",
            expected_bytes=expected,
            found_bytes=size,
        )
    return tensors


def _tensor(entry: Mapping[str, list[int]]) -> Tensor:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if end < start or (math.prod(shape) > 0) != (end > start):
        raise ValueError(f"shape {list(shape)} in {end - start} bytes")
    return Tensor(str(entry["dtype"]), shape, end - start)


def _files_of_index(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{index} cannot be read ({_first_line(error)})") from error
    files = [index.parent / os.path.basename(str(name)) for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if not files:
        raise DataError(f"{index} names no weight files: download it again")
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(files)} weight files that {index} names are missing: {', '.join(missing[:3])}",
            missing=missing,
        )
    return files


def _hub_is_in_reach() -> bool:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    if urllib.request.getproxies():
        return True  # names may be known to the proxy alone
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    """The first sentence-carrying line: of a line that announces others, both."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
