"""Reads what `--method` names: `CoT@3`, `DFS_w2`, `DFS_woFilter_w2`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evaluation.toolbench.inference.errors import ConfigError

_COT = re.compile(r"CoT[\w.-]*@([1-9]\d*)")
_DFS = re.compile(r"DFS[\w.@-]*_w([1-9]\d*)")


@dataclass(frozen=True)
class CotMethod:
    """Makes up to `num_tries` independent chains."""

    num_tries: int


@dataclass(frozen=True)
class DfsMethod:
    """Searches a tree of up to `width` children a node, with or without ranking them."""

    width: int
    with_filter: bool


def parse_method(method: str) -> CotMethod | DfsMethod:
    """Read what to run. ConfigError for an unknown method.

    >>> parse_method("CoT@3"), parse_method("DFS_woFilter_w2")
    (CotMethod(num_tries=3), DfsMethod(width=2, with_filter=False))
    """
    if match := _COT.fullmatch(method):
        return CotMethod(int(match[1]))
    if match := _DFS.fullmatch(method):
        return DfsMethod(int(match[1]), with_filter="woFilter" not in method)
    raise ConfigError(
        f"unknown --method {method!r}: use CoT@<tries> such as CoT@1, DFS_w<width>, or DFS_woFilter_w<width> "
        "such as DFS_woFilter_w2"
    )
