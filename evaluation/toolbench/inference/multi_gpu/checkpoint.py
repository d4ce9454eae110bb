"""Reads what a checkpoint holds from its config and from the headers of its safetensors files.

Nothing here reads weights: a checkpoint of any size is judged in milliseconds, and one that is
incomplete is refused before a byte goes to a GPU.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.multi_gpu.model_files import find_model
from evaluation.toolbench.json_input import JsonError, parse_object, read_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_HEADER_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
_IN_THIS_ORDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_PIECES, _PIECE_BYTES = 1024, 4096  # of a tensor that are compared


@dataclass(frozen=True)
class Tensor:
    """Describes one stored tensor: `dtype` as safetensors writes it ("BF16"), `num_bytes` as stored."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    file: Path = field(compare=False)
    offset: int = field(compare=False)  # of its first byte in the file


@dataclass(frozen=True)
class Checkpoint:
    """Describes a local folder, its weight files, and the tensors in them (none known for .bin files)."""

    folder: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]


def read_config(model_path: str) -> PretrainedConfig:
    """Return the model's config, with an adapter's vocabulary. DataError when there is none, or it is unknown here."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    files = find_model(model_path, weights=False)
    if not (files.folder / "config.json").is_file():
        raise DataError(f"no config.json in {files.folder}; is this the folder of a checkpoint?")
    try:
        # A checkpoint that needs code of its own is refused below; whether to run it is not asked of anybody.
        config = AutoConfig.from_pretrained(str(files.folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # configs check themselves in many ways, each with errors of its own
        raise DataError(f"cannot read the config of {model_path}: {_first_line(error)}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise DataError(
            f"{model_path} is a {config.model_type!r} model, which transformers has no text-generating class for"
        )
    text = config.get_text_config()
    if not text.vocab_size:
        raise DataError(
            f"{files.folder}/config.json says vocab_size {text.vocab_size}, as a resize under DeepSpeed ZeRO-3 leaves "
            "it: set it to the number of rows of the embedding"
        )
    for name in ("num_hidden_layers", "max_position_embeddings"):
        if isinstance(number := getattr(text, name, None), int) and number < 1:
            raise DataError(
                f"{files.folder}/config.json says {name} {number}, which no model can run with: use the config that "
                "was saved with these weights"
            )
    if files.adapter and (rows := _adapter_rows(files.adapter)):
        text.vocab_size = rows
    return config


def read_checkpoint(folder: Path, explicit_file: str | None = None) -> Checkpoint:
    """Return the weight files of `folder`, those that transformers would load, and their tensors.

    `explicit_file` is the one that a config may name. DataError when one is missing, cut off or unreadable.
    """
    candidates = (explicit_file,) if explicit_file else _IN_THIS_ORDER
    found = next((folder / name for name in candidates if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"no weights in {folder}: {_what_is_there_instead(folder)}")
    files = _files_of_index(found) if found.suffix == ".json" else [found]
    if any(file.suffix == ".bin" for file in files):
        return Checkpoint(folder, tuple(files), {})
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(read_tensors(file))
    return Checkpoint(folder, tuple(files), tensors)


def have_different_values(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors differ, by pieces read all over them: tied ones are the same throughout."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return True
    step = max(_PIECE_BYTES, first.num_bytes // _PIECES)
    with first.file.open("rb") as one, second.file.open("rb") as other:
        for start in range(0, first.num_bytes, step):
            length = min(_PIECE_BYTES, first.num_bytes - start)
            one.seek(first.offset + start)
            other.seek(second.offset + start)
            if one.read(length) != other.read(length):
                return True
    return False


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return name -> tensor of one safetensors file, from its header alone.

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
        header = parse_object(text)
        header.pop("__metadata__", None)
        start = _HEADER_LENGTH_BYTES + length
        tensors = {name: _tensor(entry, file, start) for name, entry in header.items()}
        data_bytes = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} has an unreadable header ({_first_line(error)}): download it again") from error
    expected = _HEADER_LENGTH_BYTES + length + data_bytes
    if size < expected:
        raise DataError(
            f"{file} is cut off: {size:,} of its {expected:,} bytes are there; download it again",
            expected_bytes=expected,
            found_bytes=size,
        )
    return tensors


def _tensor(entry: Mapping[str, list[int]], file: Path, data_start: int) -> Tensor:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if end < start or (math.prod(shape) > 0) != (end > start):
        raise ValueError(f"shape {list(shape)} in {end - start} bytes")
    return Tensor(str(entry["dtype"]), shape, end - start, file, data_start + start)


def _files_of_index(index: Path) -> list[Path]:
    try:
        names = sorted(set(parse_object(read_file(index))["weight_map"].values()))
    except (OSError, JsonError, KeyError, AttributeError, TypeError) as error:
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


def _what_is_there_instead(folder: Path) -> str:
    """Say what a folder without weights that transformers would find has in their place."""
    here = {path.name for path in folder.iterdir()}
    if "zero_to_fp32.py" in here or any(name.startswith("global_step") for name in here):
        return (
            "this is DeepSpeed's own form of a save; make weights of it with "
            f"`python zero_to_fp32.py . . --safe_serialization` in {folder}"
        )
    if any(name.endswith(".distcp") or name.startswith("pytorch_model_fsdp") for name in here):
        return "this is a sharded FSDP save; make weights of it with `accelerate merge-weights`"
    if any(name.endswith(".gguf") for name in here):
        return "GGUF files are for llama.cpp; take the model's safetensors"
    parts = [name for name in here if name.endswith(".safetensors")]
    if parts:
        return f"{len(parts)} safetensors files, but neither model.safetensors nor model.safetensors.index.json"
    return "neither model.safetensors nor its index, nor pytorch_model.bin"


def _adapter_rows(adapter: Path) -> int | None:
    """Return the rows of the embedding or the head that an adapter brings along, None for one without."""
    file = adapter / "adapter_model.safetensors"
    tensors = read_tensors(file) if file.is_file() else {}
    ends = ("embed_tokens.weight", "lm_head.weight")
    return next((tensor.shape[0] for name, tensor in tensors.items() if name.endswith(ends)), None)


def _first_line(error: BaseException) -> str:
    """Return the error's first line, and the second too when the first ends in a colon."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
