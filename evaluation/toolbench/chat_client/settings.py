"""Says where chat servers are and how much patience they get."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from evaluation.toolbench.http_client.retry import RetryPolicy
from evaluation.toolbench.http_client.urls import parse_http_url, without_secrets, would_leak_key
from evaluation.toolbench.inference.errors import ConfigError


@dataclass(frozen=True)
class Server:
    """Names one OpenAI-compatible server. `key_source` says, for messages, where its key comes from."""

    url: httpx.URL
    api_key: str = field(repr=False)
    key_source: str

    def __post_init__(self) -> None:
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError(f"the server's key ({self.key_source}) has characters that an HTTP header cannot carry")

    @property
    def shown_url(self) -> str:
        return without_secrets(self.url)

    @property
    def would_leak_key(self) -> bool:
        return bool(self.api_key) and would_leak_key(self.url)


@dataclass(frozen=True)
class ChatSettings:
    """Names the servers, used in turn. `model` None: whatever the caller's own is, or the only one that is served.

    `timeout_s` is the longest that one request may take, `patience_s` how long servers that answer nothing any more
    are waited for, `check_s` the same at the start.
    """

    servers: tuple[Server, ...]
    model: str | None = None
    timeout_s: float = 600.0
    connect_timeout_s: float = 5.0
    check_s: float = 10.0
    patience_s: float = 120.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)


def base_url(text: str, setting: str) -> httpx.URL:
    """Return `text` as the URL below which `chat/completions` is; "/v1" where it names a host alone."""
    url = parse_http_url(text, setting)
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.copy_with(path=path or "/v1", query=None, fragment=None)


def choose_model(default: str, served: list[str], *, whose: str, remedy: str) -> str:
    """Choose the model to ask where none is named: the default if it is served, else the only one that is.

    ConfigError where several others are served; it says `whose` server that is.
    """
    if not served or default in served:
        return default
    if len(served) == 1:
        return served[0]
    besides = f" and not {default}" if default else ""
    raise ConfigError(f"{whose} server has {len(served)} models ({', '.join(served[:5])}){besides}: {remedy}")
