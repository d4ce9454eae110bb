"""Says where the judge is and how much patience it gets: from flags, the environment and the pool file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from evaluation.toolbench.chat_client.settings import ChatSettings, Server, base_url
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.json_input import JsonError, read_json
from evaluation.toolbench.tooleval.judge.requests import Constraint

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "JUDGE_API_KEY"


@dataclass(frozen=True)
class JudgeSettings(ChatSettings):
    """Names the judge's servers. `model` None: the evaluator's own; `constraint` None: whatever the server can do."""

    constraint: Constraint | None = None

    @classmethod
    def of(
        cls,
        environment: Mapping[str, str],
        *,
        url: str | None = None,
        model: str | None = None,
        constraint: Constraint | None = None,
        timeout_s: float = 600.0,
    ) -> JudgeSettings:
        """Return the settings of command line and environment. ConfigError for invalid ones.

        A key goes only to the server that it was given for: JUDGE_API_KEY to --judge_url or JUDGE_URL, OPENAI_KEY
        to OPENAI_BASE_URL or OpenAI's own, and a pool entry's to its own.
        """
        return cls(
            _servers(environment, url),
            model=model or environment.get("JUDGE_MODEL") or environment.get("EVAL_MODEL") or None,
            constraint=constraint,
            timeout_s=timeout_s,
        )


def _servers(environment: Mapping[str, str], url: str | None) -> tuple[Server, ...]:
    own_url = url or environment.get("JUDGE_URL")
    if own_url:
        setting = "--judge_url" if url else "JUDGE_URL"
        return (Server(base_url(own_url, setting), environment.get(KEY_VARIABLE, "").strip(), KEY_VARIABLE),)
    openai_variable = "OPENAI_BASE_URL" if environment.get("OPENAI_BASE_URL") else "OPENAI_API_BASE"
    openai_text = environment.get(openai_variable)
    openai_url = base_url(openai_text or OPENAI_URL, openai_variable)
    servers = []
    if environment.get("API_POOL_FILE"):
        servers = _pool(Path(environment["API_POOL_FILE"]), openai_url)
    key_variable = "OPENAI_KEY" if environment.get("OPENAI_KEY") else "OPENAI_API_KEY"
    key = environment.get(key_variable, "").strip()
    if key or (openai_text and not servers):
        servers.append(Server(openai_url, key, key_variable))
    if not servers:
        raise ConfigError(
            "no judge: pass --judge_url http://HOST:8000/v1 (or set JUDGE_URL; scripts/serve_vllm.sh starts a server), "
            "or set OPENAI_KEY or API_POOL_FILE for a judge of OpenAI's"
        )
    return tuple(servers)


def _pool(path: Path, default_url: httpx.URL) -> list[Server]:
    """Return the entries of a pool file: a list of {"api_key", "api_base"}, of which one may be absent."""
    try:
        entries = read_json(path)
    except OSError as error:
        raise ConfigError(f"cannot read API_POOL_FILE {path}: {error.strerror}") from error
    except JsonError as error:
        raise ConfigError(f"API_POOL_FILE {path} is {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f'API_POOL_FILE {path} is not a list of {{"api_key": "...", "api_base": "..."}}')
    return [_pool_server(path, number, entry, default_url) for number, entry in enumerate(entries)]


def _pool_server(path: Path, number: int, entry: Mapping[str, Any], default_url: httpx.URL) -> Server:
    where = f"API_POOL_FILE {path}, entry {number}"
    key, base = entry.get("api_key") or "", entry.get("api_base") or ""
    if not isinstance(key, str) or not isinstance(base, str) or not (key or base):
        raise ConfigError(f"{where} has neither an api_key nor an api_base that is text")
    return Server(base_url(base, f"{where}, api_base") if base else default_url, key.strip(), where)
