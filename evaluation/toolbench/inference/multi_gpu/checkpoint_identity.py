"""Tells in a few characters which checkpoint a folder holds: copies agree, any other training step does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evaluation.toolbench.inference.errors import DataError

_MODEL_FILES = ("*.json", "*.model", "*.txt", "*.jinja", "*.safetensors", "*.bin", "*.pt", "*.pth")
_WHOLE_BYTES = 64 * 2**20  # larger files are looked at in samples: gigabytes would take minutes on a network's disk
_NUM_SAMPLES = 32
_SAMPLE_BYTES = 4096


def checkpoint_identity(folder: Path) -> str:
    """Return a digest over the names, sizes and contents of a checkpoint's files. DataError if one cannot be read.

    Of large files evenly spread samples count. A step of training changes nearly every weight, if little.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern) if path.is_file()}):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            _add_content(path, digest)
    except OSError as error:
        raise DataError(f"cannot read the checkpoint in {folder}: {error.strerror}") from error
    return digest.hexdigest()[:16]


def _add_content(path: Path, digest: hashlib._Hash) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= _WHOLE_BYTES:
            digest.update(stream.read())
            return
        for number in range(_NUM_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * number // (_NUM_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
