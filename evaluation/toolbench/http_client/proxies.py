"""Tells which proxy the environment names for a URL, and whether it can be used."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from urllib.request import getproxies, proxy_bypass

import httpx

from evaluation.toolbench.http_client.urls import is_loopback, without_secrets
from evaluation.toolbench.inference.errors import ConfigError

_SOCKS = ("socks5", "socks5h")
_SCHEMES = ("http", "https", *_SOCKS)


def proxy_for(url: httpx.URL) -> str | None:
    """Return the proxy for requests to `url`, by the variables that curl knows too; None without one.

    What stays on this machine never goes through one. ConfigError, in one line with the variable and the remedy,
    for a proxy that httpx cannot use.
    """
    if is_loopback(url):
        return None
    proxies = getproxies()
    scheme = url.scheme if proxies.get(url.scheme) else "all"
    text = proxies.get(scheme)
    if not text or proxy_bypass(url.host):
        return None
    text = text if "://" in text else f"http://{text}"
    remedy = f"or reach {url.host} without a proxy: NO_PROXY={url.host}"
    variable = _variable(scheme, os.environ)
    try:
        proxy = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"{variable} is not the URL of a proxy ({error}): correct it, {remedy}") from error
    shown = f"{variable}={without_secrets(proxy)}"
    if proxy.scheme not in _SCHEMES or not proxy.host:
        raise ConfigError(f"{shown} is not a proxy that can be used: write {', '.join(_SCHEMES)}://HOST:PORT, {remedy}")
    if proxy.scheme in _SOCKS and importlib.util.find_spec("socksio") is None:
        raise ConfigError(f"{shown} is a SOCKS proxy, which needs a package: pip install 'httpx[socks]', {remedy}")
    return text


def _variable(scheme: str, environ: Mapping[str, str]) -> str:
    """Return the variable that was read: of two spellings the lower one, as everywhere."""
    lower = f"{scheme}_proxy"
    return lower if environ.get(lower) else lower.upper()
