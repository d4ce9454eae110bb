"""Makes engines by name, as `--engine` gives them."""

from __future__ import annotations

import logging
from typing import Any

from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine import ENGINES
from evaluation.toolbench.inference.engine.kv_format import require_pages
from evaluation.toolbench.inference.engine.paged.attach import CannotBePagedError
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.remote.engine import ServerEngine
from evaluation.toolbench.inference.engine.request import Engine
from evaluation.toolbench.inference.errors import ConfigError

logger = logging.getLogger(__name__)


def make_engine(name: str, model: PreTrainedModel | None, **options: Any) -> Engine:
    """Make the engine called `name` over `model`; `options` are its own arguments. ConfigError for other names.

    "auto" is `paged`, on a GPU and on the CPU alike (it batches, and keeps what it has read), or
    `generate` for a model that cannot be served from pages. The options of "auto" are those of `paged`.
    "server" has its model elsewhere and needs none here. A `kv_cache` other than "auto" is for pages alone.
    """
    if name not in ENGINES:
        raise ConfigError(f"unknown engine {name!r}: choose one of {', '.join(ENGINES)}")
    require_pages(options.get("kv_cache", "auto"), name)
    if name == "server":
        return ServerEngine(**options)
    if model is None:
        raise ConfigError(f"the engine {name!r} needs a loaded model; only 'server' does without")
    if name == "generate":
        return GenerateEngine(model, **options)
    if name == "paged":
        return PagedEngine(model, **options)
    try:
        return PagedEngine(model, **options)
    except CannotBePagedError as error:
        if options.get("kv_cache", "auto") != "auto":
            raise ConfigError(f"{error}, which has no pages: --kv_cache auto") from error
        logger.warning("%s; going on with it, one request at a time", error)
        return GenerateEngine(model)
