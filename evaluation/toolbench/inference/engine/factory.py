"""Engines by name, as `--engine` gives them."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.generate import GenerateEngine
from evaluation.toolbench.inference.engine.request import Engine
from evaluation.toolbench.inference.errors import ConfigError

ENGINES = ("generate",)


def make_engine(name: str, model: PreTrainedModel, **options: Any) -> Engine:
    """The engine called `name` over `model`; `options` are its own keyword arguments. ConfigError for other names."""
    if name == "generate":
        return GenerateEngine(model, **options)
    raise ConfigError(f"unknown engine {name!r}: choose one of {', '.join(ENGINES)}")
