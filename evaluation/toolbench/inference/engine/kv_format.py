"""Says which formats a KV cache can have, and which engines have it. Light: imports no torch."""

from __future__ import annotations

from evaluation.toolbench.inference.engine import KV_CACHES
from evaluation.toolbench.inference.errors import ConfigError


def check_kv_cache(kv_cache: str) -> None:
    """Raise ConfigError for a name that is not one of KV_CACHES."""
    if kv_cache not in KV_CACHES:
        raise ConfigError(f"kv_cache={kv_cache!r} is not one of {', '.join(KV_CACHES)}")


def require_pages(kv_cache: str, engine: str) -> None:
    """Raise ConfigError where a format is asked for and the engine has no pages, or its server pages of its own."""
    check_kv_cache(kv_cache)
    if kv_cache == "auto" or engine in ("auto", "paged"):
        return
    why = (
        "the server has the KV cache, and its own options say in which format (vLLM: --kv-cache-dtype fp8)"
        if engine == "server"
        else "transformers' own generation keeps it in the model's dtype; use --engine paged"
    )
    raise ConfigError(f"--kv_cache {kv_cache} with --engine {engine}: {why}")
