"""Checks what a user says about generation servers, when it is said."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal, get_args

import httpx

from evaluation.toolbench.http_client.retry import RetryPolicy
from evaluation.toolbench.http_client.urls import without_secrets
from evaluation.toolbench.inference.engine import SERVER_WAIT_S
from evaluation.toolbench.inference.errors import ConfigError

ConstraintStyle = Literal["list", "grammar"]  # how a set of more than LONGEST_LIST ids is written
KEY_VARIABLE = "ENGINE_API_KEY"

# Beyond this many allowed_token_ids the V2 model runner of vLLM 0.23 and later stops the whole server
# (MAX_NUM_ALLOWED_TOKEN_IDS in its v1/worker/gpu/sample/logit_bias.py).
LONGEST_LIST = 1024


@dataclass(frozen=True)
class ServerSettings:
    """Says where the servers are and how much patience they get. ConfigError for invalid values.

    `urls` end in "/v1". `model` is the model's name on the servers, None: the checkpoint's. `constraints` says how
    sets of more than 1,024 ids are written, None: whatever proves safe. `wait_s` is how long a run without any
    server waits for one; `timeout_s` the longest that one request may take.
    """

    urls: tuple[httpx.URL, ...]
    model: str | None = None
    constraints: ConstraintStyle | None = None
    wait_s: float = SERVER_WAIT_S
    timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    api_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.urls:
            raise ConfigError(
                "no generation server: pass --engine_url http://HOST:8000/v1 (several: separated by commas); "
                "scripts/serve_vllm.sh starts one"
            )
        if self.wait_s < 0:
            raise ConfigError(f"--engine_wait must be 0 or more seconds, not {self.wait_s:g}")
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError(f"{KEY_VARIABLE} has characters that an HTTP header cannot carry")

    @classmethod
    def of(
        cls,
        urls: str,
        *,
        model: str | None = None,
        constraints: str = "auto",
        wait_s: float = SERVER_WAIT_S,
    ) -> ServerSettings:
        """Return the settings of the command line: URLs separated by commas; the key comes from the environment."""
        if constraints not in ("auto", *get_args(ConstraintStyle)):
            raise ConfigError(f"unknown --engine_constraints {constraints!r}: use auto, list or grammar")
        return cls(
            tuple(dict.fromkeys(_parse(text) for text in urls.split(",") if text.strip())),
            model=model or None,
            constraints=None if constraints == "auto" else constraints,  # type: ignore[arg-type]  # one of the two
            wait_s=wait_s,
            api_key=os.environ.get(KEY_VARIABLE, "").strip(),
        )


def _parse(text: str) -> httpx.URL:
    """Return `text` as the base URL of an OpenAI-compatible server: "/v1" is added where it is left out."""
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"--engine_url is not a URL like http://localhost:8000/v1: {text.strip()!r}") from error
    if url.scheme not in ("http", "https") or not url.host:
        shown = without_secrets(url)
        raise ConfigError(f"--engine_url must be like http://localhost:8000/v1, with scheme and host, not {shown!r}")
    if url.port is not None and not 0 < url.port < 2**16:
        raise ConfigError(f"--engine_url: {url.port} is not a port")
    path = url.path.rstrip("/")
    return url.copy_with(path=path if path.endswith("/v1") else f"{path}/v1", query=None, fragment=None)
