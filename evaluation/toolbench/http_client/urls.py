"""Checks the URLs that users give."""

from __future__ import annotations

import ipaddress

import httpx

from evaluation.toolbench.inference.errors import ConfigError


def parse_http_url(text: str, setting: str) -> httpx.URL:
    """Return `text` as a URL; ConfigError naming `setting` unless it is http(s):// with a host."""
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"{setting} is not a URL like http://localhost:8080/virtual: {text!r} ({error})") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{setting} must start with http:// or https:// and name a host, not {text!r}")
    if url.port is not None and not 0 < url.port < 2**16:
        raise ConfigError(f"{setting}: {url.port} is not a port, in {text!r}")
    return url


def is_loopback(url: httpx.URL) -> bool:
    """Return whether requests to `url` stay on this machine."""
    if url.host == "localhost" or url.host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(url.host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified  # 0.0.0.0, as servers print where they listen


def would_leak_key(url: httpx.URL) -> bool:
    """Return whether a key sent to `url` crosses a network unencrypted."""
    return url.scheme == "http" and not is_loopback(url)


def without_secrets(url: httpx.URL) -> str:
    """Return `url` for messages: no user name, no password, no query."""
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))
