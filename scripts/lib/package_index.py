"""Tells whether pip's package index can be reached. Exit code 0: yes, or pip has other places; 1: neither.

Without a network pip's resolver tries every version of everything and ends with "conflicting dependencies", which says
nothing of the network. Standard library only, since it runs before anything is installed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

_DEFAULT = "https://pypi.org/simple"
_REPLY_S = 10
_ELSEWHERE = ("extra-index-url", "find-links")


def settings_of(configuration: str) -> dict[str, str]:
    """Return setting -> value of what `pip config list` prints, in lines like global.index-url='https://...'.

    >>> settings_of("global.index-url='https://mirror/simple'\\n:env:.find-links='/wheels'")
    {'index-url': 'https://mirror/simple', 'find-links': '/wheels'}
    """
    found = {}
    for line in configuration.splitlines():
        name, separator, value = line.partition("=")
        if separator and name.split(".")[0] in ("global", "install", ":env:"):
            found[name.rpartition(".")[2]] = " ".join(shlex.split(value))
    return found


def problem_of(index: str) -> str | None:
    """Return why an index cannot be reached, None where it can. Any answer counts, a refusal too."""
    try:
        urllib.request.urlopen(f"{index.rstrip('/')}/pip/", timeout=_REPLY_S).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def message_for(settings: Mapping[str, str]) -> tuple[str, bool]:
    """Return (what to say, "" for nothing; whether pip may find packages all the same)."""
    if settings.get("no-index", "false").lower() in ("true", "1", "yes", "on"):
        return "", True
    index = settings.get("index-url", _DEFAULT)
    problem = problem_of(index)
    if problem is None:
        return "", True
    elsewhere = [settings[name] for name in _ELSEWHERE if settings.get(name)]
    shown = (
        urllib.parse.urlsplit(index)._replace(netloc=urllib.parse.urlsplit(index).netloc.rpartition("@")[2]).geturl()
    )
    said = f"The package index {shown} cannot be reached ({problem})"
    if elsewhere:
        return f"{said}: only what {' '.join(elsewhere)} has can be installed.", True
    return f"{said}, so nothing can be installed. PIP_INDEX_URL names a mirror; https_proxy a proxy.", False


def main() -> int:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    said, may_work = message_for(settings_of(listed.stdout))
    if said:
        print(said, file=sys.stderr)
    return 0 if may_work else 1


if __name__ == "__main__":
    sys.exit(main())
