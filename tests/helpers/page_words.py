"""English that a page shows to a reader of Chinese, beside what its run said."""

from __future__ import annotations

import re

from tests.helpers.browser import Browser

# Names and units that Chinese texts have as they are.
_SAME = {"API", "CPU", "GPU", "GiB", "CSV", "JSON", "English", "token", "tokens", "Esc", "ms", "min", "Finish"}
_SAME |= {"ToolGen", "NDCG", "Recall", "ndcg", "recall", "mrr", "MRR", "McNemar"}
_SAME |= {"weights"}  # a flag

_TEXTS = """
(() => {
  const said = [];
  const gather = (value) => {
    if (typeof value === "string") said.push(value);
    else if (value && typeof value === "object") Object.values(value).forEach(gather);
  };
  gather(report);
  const own = "script, style, noscript, .block, .prose, .facts, .question, .mono, .action, .outline, td.text";
  const shown = [];
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest(own)) continue;
    for (const node of element.childNodes) {
      if (node.nodeType === 3 && element.checkVisibility()) shown.push(node.data);
    }
    for (const name of ["aria-label", "title", "placeholder"]) shown.push(element.getAttribute(name) || "");
  }
  return { said, shown };
})()
"""


def left_in_english(page: Browser) -> set[str]:
    """The words of two letters and more that neither the data of `page` nor names and units account for."""
    texts = page.js(_TEXTS)
    said, shown = (set(re.findall(r"[A-Za-z]{2,}", " ".join(texts[name]))) for name in ("said", "shown"))
    return shown - said - _SAME
