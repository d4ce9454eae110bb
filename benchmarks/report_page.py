"""Measures how large report.html is, or a comparison of runs, and how quickly a browser shows it.

`python -m benchmarks.report_page --help`

What to expect: a query of 5 steps is about 7 KB of text, of which half is left after compression and base64.
A page of 765 queries thus has some 3 MB, and a browser reads that in a fraction of a second as long as nothing
is unpacked before a reader asks for it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report_workload import RealQuery, make_folder, make_verdicts, real_queries
from evaluation.toolbench.inference.run_report.comparison import write_comparison
from evaluation.toolbench.inference.run_report.report import write_report
from tests.helpers.browser import CHROMIUM, Browser

_METHODS = ("CoT@1", "DFS_woFilter_w2")
_TYPICAL_WIDTHS = (1440, 900)
_VERDICTS = 3  # of a judge, for each answer


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 after a table and, last, one line of JSON on stdout; 2 without what it needs."""
    arguments = _parser().parse_args(argv)
    if CHROMIUM is None or not (arguments.data_dir / "solvable_queries").is_dir():
        missing = "a Chromium" if CHROMIUM is None else f"{arguments.data_dir}/solvable_queries"
        print(f"this benchmark needs {missing}, found none", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        results = [measure(Path(temporary), arguments, method) for method in arguments.methods]
    _print_table(results)
    print(json.dumps({"cores": os.cpu_count(), "machine": platform.machine(), "results": results}))
    return 0


def measure(temporary: Path, arguments: argparse.Namespace, method: str) -> dict[str, Any]:
    """Build the page of one run and look at it: bytes and seconds, medians of `--repeats` loads."""
    folder = arguments.keep / method if arguments.keep else temporary / method
    folder.mkdir(parents=True)
    queries = real_queries(arguments.data_dir, arguments.queries)
    if arguments.compare:
        runs = [_make_run(folder, queries, method, variant) for variant in range(arguments.compare)]
    else:
        make_folder(folder, queries, method=method)
    answer_bytes = sum(path.stat().st_size for path in folder.rglob(f"*_{method}.json"))
    started = time.perf_counter()
    page = write_comparison(runs, scores=[folder / "scores"]) if arguments.compare else write_report(folder)
    build_s = time.perf_counter() - started
    browser = Browser(temporary / f"profile-{method}", *_TYPICAL_WIDTHS)
    try:
        looks = [_look_at(browser, page) for _ in range(arguments.repeats)]
    finally:
        browser.close()
    medians = {key: round(statistics.median(look[key] for look in looks), 3) for key in looks[0]}
    return {
        "method": method,
        "queries": arguments.queries,
        "runs": arguments.compare or 1,
        "answers_mb": round(answer_bytes / 1e6, 1),
        "page_mb": round(page.stat().st_size / 1e6, 2),
        "build_s": round(build_s, 2),
        **medians,
    }


def _make_run(folder: Path, queries: Sequence[RealQuery], method: str, variant: int) -> Path:
    """Make one run over the queries' sets, judged three times each; return its folder."""
    run, scores = folder / f"run-{variant}", folder / "scores"
    scores.mkdir(exist_ok=True)
    for test_set in sorted({query.test_set for query in queries}):
        of_set = [query for query in queries if query.test_set == test_set]
        (run / test_set).mkdir(parents=True)
        make_folder(run / test_set, of_set, method=method, variant=variant)
        make_verdicts(scores, f"{test_set}_{run.name}", of_set, repeats=_VERDICTS, variant=variant)
    return run


def _look_at(browser: Browser, page: Path) -> dict[str, float]:
    browser.open(page.as_uri())
    load_s = browser.js("Number(document.documentElement.dataset.readyMs)") / 1000
    # The query with the most steps, then a search through everything that was said, which unpacks it all.
    open_s = browser.js(
        "(async () => { const start = performance.now();"
        "const steps = (row) => row.steps ?? Math.max(...row.cells.map((cell) => cell?.steps ?? 0));"
        "const row = report.rows.reduce((most, each) => steps(each) > steps(most) ? each : most);"
        "location.hash = encodeURIComponent(row.key);"
        "while (document.getElementById('query').hidden) await new Promise(requestAnimationFrame);"
        "return (performance.now() - start) / 1000; })()"
    )
    search_s = browser.js(
        "(async () => { const start = performance.now(); search.value = 'weather'; deep.checked = true;"
        "await table.update(); return (performance.now() - start) / 1000; })()"
    )
    assert not browser.errors, browser.errors
    return {"load_s": load_s, "open_longest_query_s": open_s, "first_deep_search_s": search_s}


def _print_table(results: Sequence[dict[str, Any]]) -> None:
    table = Table("", *(result["method"] for result in results))
    for name in list(results[0])[1:]:
        table.add_row(name.replace("_", " "), *(str(result[name]) for result in results))
    Console().print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report_page",
        description="Size and load time of report.html over real queries with made-up conversations, in a headless "
        "Chromium. Prints a table and, as its last line, JSON.",
    )
    parser.add_argument("--data_dir", type=Path, required=True, metavar="DIR", help="with solvable_queries/ in it")
    parser.add_argument(
        "--queries", type=int, default=765, metavar="N", help="queries of the report (default: %(default)s)"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(_METHODS), metavar="METHOD", help="a report each (default: all)"
    )
    parser.add_argument(
        "--compare", type=int, default=0, metavar="N", help="measure the page that compares this many runs, each judged"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="page loads to take the median of (default: %(default)s)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the folders of answers here and leave them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
