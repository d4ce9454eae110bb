"""Small checkpoints on disk, whole and damaged."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.engine import tiny_llama


def save_tiny_llama(folder: Path, *, max_shard_size: str = "5GB", **changes: int | float | bool) -> Path:
    """A random-weights Llama of 2 layers, saved as transformers saves checkpoints."""
    tiny_llama(**changes).save_pretrained(folder, max_shard_size=max_shard_size)
    return folder
