"""Makes the page of a folder of answer folders: a row a set, with a link to its report. Nothing in it moves."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Sequence
from pathlib import Path

from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.number_formats import FORMATS
from evaluation.toolbench.inference.records.run_record import RunRecord
from evaluation.toolbench.inference.run_report.html import still_page
from evaluation.toolbench.inference.run_report.set_figures import SetFigures, total_of

# Without a script the page cannot change its language, so its headings are in both.
_NUMBERS = {
    "queries": "查询",
    "answered": "已答",
    "gave up": "放弃",
    "no answer": "无答案",
    "failed": "失败",
    "left": "剩余",
    "tokens": "token",
    "API calls": "API 调用",
    "hits": "缓存命中",
    "fuzzy": "近似命中",
    "simulated": "模拟返回",
    "not recorded": "缓存中没有",
    "time": "时间",
}


def overview_page(folder: Path, rows: Sequence[SetFigures], run: RunRecord | None, reports: dict[Path, Path]) -> str:
    """Build the page over `rows`, which lie below `folder`; `reports` are relative links to the reports of folders."""
    headings = "".join(f'<th class="number">{name}<br>{chinese}</th>' for name, chinese in _NUMBERS.items())
    body = "".join(_row(_link(row.folder, folder, reports), row) for row in rows)
    body += _row("<b>all 合计</b>", total_of(rows, folder))
    facts = " · ".join(_facts(run)) if run else ""
    table = (
        '<div class="table-frame"><table><thead><tr><th>set<br>查询集</th><th>method<br>方法</th>'
        f"{headings}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
    return still_page(title=folder.resolve().name, facts=facts, heading="Sets 查询集", body=table)


def _row(name: str, row: SetFigures) -> str:
    counts = (
        *(row.queries, row.answered, row.gave_up, row.no_answer, row.failed, row.left),
        *(row.tokens, row.api_calls, row.cache.hits, row.cache.fuzzy_hits, row.cache.simulated, row.cache.misses),
    )
    share = f" ({row.answered / row.queries:.0%})" if row.queries else ""
    cells = [f"{count:,}" for count in counts]
    cells[1] += share
    cells.append(duration(row.seconds))
    numbers = "".join(
        f'<td class="number" data-name="{name}">{cell}</td>' for name, cell in zip(_NUMBERS, cells, strict=True)
    )
    return f'<tr><td class="id">{name}</td><td>{html.escape(row.method)}</td>{numbers}</tr>'


def _link(folder: Path, above: Path, reports: dict[Path, Path]) -> str:
    name = html.escape(os.path.relpath(folder, above))
    return f'<a href="{html.escape(reports[folder].as_posix(), quote=True)}">{name}</a>' if folder in reports else name


def _facts(run: RunRecord) -> list[str]:
    rates, api = run.rates, run.api
    facts = [
        str(run.configuration.get("model_path") or ""),
        *(f"{name} {value}" for name in FORMATS if (value := run.configuration.get(name, AUTO)) != AUTO),
        run.status,
        time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)),
        f"{rates.queries_per_min:,.1f} queries/min" if rates.queries_per_min else "",
        f"{rates.tokens_per_s:,.0f} tokens/s" if rates.tokens_per_s else "",
        f"{api.simulated / api.calls:.0%} of API calls simulated" if api.simulated else "",
        f"{api.not_recorded / api.calls:.0%} of API calls not recorded" if api.not_recorded else "",
    ]
    return [html.escape(fact) for fact in facts if fact]


def duration(seconds: float) -> str:
    """
    >>> duration(9.4), duration(754), duration(7384)
    ('9 s', '12 min 34 s', '2 h 3 min')
    """
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole // 60 % 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
