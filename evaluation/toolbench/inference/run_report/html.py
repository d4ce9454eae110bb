"""Makes one HTML file of the page's parts and its data. It loads nothing from anywhere and needs no server.

Everything that comes from a run is data: a JSON text that cannot end its own element, which the script puts
on the page as text and never as markup. The page's own policy allows exactly its one script and style.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "page"

_SLOT = re.compile(r"\{\{(\w+)\}\}")

# Characters that could end the element, start another one, or are line ends to some parsers only.
_UNSAFE_IN_HTML = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Page:
    """Names the files that a page is made of. Scripts are in the order in which they build on each other."""

    kind: str  # what its title ends with
    template: Path
    styles: Sequence[Path]
    scripts: Sequence[Path]


RUN_PAGE = Page(
    "ToolGen run",
    ASSETS / "template.html",
    [ASSETS / "report.css"],
    [
        ASSETS / name
        for name in (
            *("words.js", "state.js", "dom.js", "plots.js", "summary.js", "table.js", "run_table.js"),
            *("texts.js", "trajectory.js", "query.js", "main.js"),
        )
    ],
)
COMPARISON_PAGE = Page(
    "ToolGen runs",
    ASSETS / "compare" / "template.html",
    [ASSETS / "report.css", ASSETS / "compare" / "compare.css"],
    [
        ASSETS / name
        for name in (
            *("words.js", "compare/words.js", "state.js", "dom.js", "table.js", "texts.js", "trajectory.js"),
            *("compare/pair.js", "compare/overview.js", "compare/table.js", "compare/query.js", "main.js"),
        )
    ],
)


def build_page(data: Mapping[str, Any], title: str, page: Page = RUN_PAGE) -> str:
    """Build the whole page, showing `data` (see `report.report_data`, `comparison.comparison_data`)."""
    style, script = ("".join(path.read_text(encoding="utf-8") for path in each) for each in (page.styles, page.scripts))
    slots = {
        "head": _head(title, page.kind, style, f"script-src '{_digest(script)}'; "),
        **{name: (ASSETS / f"{name}.html").read_text(encoding="utf-8").rstrip() for name in ("buttons", "noscript")},
        "script": script,
        "data": json_for_html(data),
    }
    return _fill(page.template, slots)


def still_page(*, title: str, facts: str, heading: str, body: str) -> str:
    """Build a page without a script. All but `title` is markup already."""
    style = (ASSETS / "report.css").read_text(encoding="utf-8")
    slots = {
        "head": _head(title, "ToolGen runs", style),
        "title": html.escape(title),
        "facts": facts,
        "heading": heading,
        "body": body,
    }
    return _fill(ASSETS / "still.html", slots)


def json_for_html(data: Any) -> str:
    """Write JSON that is safe inside a script element, whatever strings are in it. Numbers without end become strings.

    >>> json_for_html("</script>")
    '"\\\\u003c/script\\\\u003e"'
    >>> json_for_html({"wait_s": math.inf})
    '{"wait_s":"inf"}'
    """
    try:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_UNSAFE_IN_HTML).encode("utf-8", "replace").decode("utf-8")  # half characters become "?"


def _finite(data: Any) -> Any:
    """Return `data` with strings for numbers that JSON has not, such as a time limit of infinity."""
    if isinstance(data, float):
        return data if math.isfinite(data) else str(data)
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return list(map(_finite, data)) if isinstance(data, list | tuple) else data


def _fill(template: Path, slots: Mapping[str, str]) -> str:
    text = _SLOT.sub(lambda slot: slots[slot.group(1)], template.read_text(encoding="utf-8"))
    return text.encode("utf-8", "replace").decode("utf-8")  # half characters become "?"


def _head(title: str, kind: str, style: str, script_policy: str = "") -> str:
    policy = f"default-src 'none'; {script_policy}style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    slots = {"policy": policy, "title": f"{html.escape(title)} · {kind}", "style": style}
    return _fill(ASSETS / "head.html", slots)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
