"""Puts everything known of an answer folder together and writes `report.html` beside the answers."""

from __future__ import annotations

import base64
import json
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.cache_use import misses_in_words, simulated_in_words
from evaluation.toolbench.inference.records.cut_texts import warning_of
from evaluation.toolbench.inference.records.event_history import Attempt, History, read_history
from evaluation.toolbench.inference.records.rates import Rates, rates_of
from evaluation.toolbench.inference.records.run_record import RunRecord, put_file, read_run_record
from evaluation.toolbench.inference.run_report.answer_files import Answer, Failure, read_answers, read_failures
from evaluation.toolbench.inference.run_report.html import build_page
from evaluation.toolbench.inference.run_report.overview import overview_page
from evaluation.toolbench.inference.run_report.set_figures import answer_folders, is_answer_folder, set_figures
from evaluation.toolbench.inference.run_report.timeline import timelines
from evaluation.toolbench.inference.run_report.totals import FINISH_CALLS, Totals, quantile, totals_of
from evaluation.toolbench.inference.run_report.trajectory import add_timings, attempt_trajectory, trajectory_json
from evaluation.toolbench.virtual_api.own_answers import is_not_recorded

REPORT_FILE = "report.html"

_QUERIES_PER_BLOCK = 24  # compressed together: a page unpacks one block to show one query
_MOST_TOOLS = 100  # that the page lists
_EXCERPT = 160  # characters of an answer in the table


@dataclass
class Query:
    """Holds one row of the table."""

    answer: Answer
    attempts: list[Attempt] = field(default_factory=list)
    failure: Failure | None = None
    key: str = field(default="", init=False)  # the page's address of it

    @property
    def attempt(self) -> Attempt | None:
        """Return the one that counts."""
        return self.attempts[-1] if self.attempts else None


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Build the report of `folder` from what is on disk; return where it was written.

    Of a folder that has folders of answers in it, the report is a table of these; where they have no report of their
    own, it is made as well. DataError when there is nothing to report or a file cannot be read, OutputError when it
    cannot be written. Answers that cannot be read are rows of the report and no error.
    """
    output = output or folder / REPORT_FILE
    if folder.is_dir() and not is_answer_folder(folder) and (folders := answer_folders(folder)):
        return _write_overview(folder, folders, output)
    data = report_data(folder)
    put_file(output, build_page(data, title=data["title"]))
    return output


def _write_overview(folder: Path, folders: Sequence[Path], output: Path) -> Path:
    reports = {}
    for each in folders:
        path = each / REPORT_FILE
        if not path.exists():
            write_report(each)
        reports[each] = Path(os.path.relpath(path, output.parent))
    rows = [row for each in folders for row in set_figures(each)]
    put_file(output, overview_page(folder, rows, read_run_record(folder), reports))
    return output


def report_data(folder: Path) -> dict[str, Any]:
    """Collect what the page shows, as JSON values."""
    answers, failures, history = read_answers(folder), read_failures(folder), read_history(folder)
    run = read_run_record(folder)
    queries = queries_of(answers, failures, history)
    if not queries and run is None:
        raise DataError(
            f"nothing to report in {folder}: no answer (<id>_<method>.json), no events-*.jsonl, no run.json. "
            "Name the folder that --output_answer_file named"
        )
    details = [detail_of(query) for query in queries]
    runs = timelines(history)
    return {
        "title": folder.resolve().name,
        "built": round(time.time()),
        "run": run.to_json() if run else None,
        "summary": _summary(queries, history, run, sum(each.serving_s for each in runs)),
        "timelines": [asdict(each) for each in runs],
        "rows": [row_of(query, position) for position, query in enumerate(queries)],
        "blocks": [
            compressed(details[start : start + _QUERIES_PER_BLOCK])
            for start in range(0, len(details), _QUERIES_PER_BLOCK)
        ],
        "queries_per_block": _QUERIES_PER_BLOCK,
    }


def queries_of(answers: Sequence[Answer], failures: Sequence[Failure], history: History) -> list[Query]:
    """Collect everything that has an answer, failed, or was begun."""
    attempts = history.attempts()
    queries = {}
    for answer in answers:
        of_query = attempts.get((answer.query_id, answer.method), [])
        if of_query:
            add_timings(answer.trajectories, of_query[-1])
        queries[answer.query_id, answer.method] = Query(answer, of_query)
    failed = {(failure.query_id, failure.method): failure for failure in failures}
    for query_id, method in [*failed, *attempts]:
        # Without a method the line of its start is torn; then nothing is known that a later try would not say better.
        if method and (query_id, method) not in queries:
            of_query, failure = attempts.get((query_id, method), []), failed.get((query_id, method))
            queries[query_id, method] = _unanswered(query_id, method, of_query, failure)
    ordered = sorted(queries.values(), key=lambda query: (natural(query.answer.query_id), query.answer.method))
    has_twins = len({query_id for query_id, _ in queries}) < len(queries)
    for query in ordered:
        query.key = f"{query.answer.query_id}_{query.answer.method}" if has_twins else query.answer.query_id
    return ordered


def _unanswered(query_id: str, method: str, attempts: list[Attempt], failure: Failure | None) -> Query:
    last = attempts[-1] if attempts else None
    if failure is None and last is not None and last.outcome == "failed" and last.error is not None:
        failure = Failure(query_id, method, last.error["type"], last.error["message"])
    answer = Answer(
        query_id,
        method,
        outcome="failed" if failure else "unfinished",
        query=last.text if last else "",
        error=f"{failure.type}: {failure.message}" if failure else "The run ended before this query did.",
        trajectories=[attempt_trajectory(last)] if last and last.generations else [],
    )
    return Query(answer, attempts, failure)


def natural(query_id: str) -> tuple[int, int, str]:
    """Sort numbers by their value and before other ids."""
    return (0, int(query_id), "") if query_id.isdecimal() else (1, 0, query_id)


def row_of(query: Query, position: int) -> dict[str, Any]:
    """Return what the table of queries shows of one."""
    answer, attempt = query.answer, query.attempt
    steps = list(answer.steps())
    calls = [step for step in steps if step.action is not None and step.action != FINISH_CALLS]
    tokens = attempt.tokens if attempt and attempt.tokens is not None else answer.total_tokens
    return {
        "key": query.key,
        "id": answer.query_id,
        "method": answer.method,
        "outcome": answer.outcome,
        "query": answer.query,
        "answer": (answer.final_answer or answer.error)[:_EXCERPT],
        "steps": len(steps),
        "calls": len(calls),
        "errors": sum(step.is_error for step in steps),
        "seconds": _rounded(attempt.end - attempt.start) if attempt and attempt.end is not None else None,
        "generation_s": _rounded(sum(each.seconds for each in attempt.generations)) if attempt else None,
        "api_s": _rounded(sum(each.seconds for each in attempt.calls)) if attempt else None,
        "tokens": tokens,
        "missed": sum(is_not_recorded(step.observation or "") for step in calls),
        "prompt_tokens": sum(each.prompt_tokens or 0 for each in attempt.generations) if attempt else None,
        "tries": len(answer.trajectories),
        "attempts": len(query.attempts),
        "tools": sorted({step.action for step in calls if step.action}),
        "position": position,
    }


def detail_of(query: Query) -> dict[str, Any]:
    """Return what a query's own page shows beside its row."""
    attempt = query.attempt
    start = attempt.start if attempt else 0.0
    return {
        "final_answer": query.answer.final_answer,
        "error": query.answer.error,
        "traceback": query.failure.traceback if query.failure else "",
        "trajectories": [trajectory_json(each, lambda t: t - start) for each in query.answer.trajectories],
    }


def _summary(queries: Sequence[Query], history: History, run: RunRecord | None, serving_s: float) -> dict[str, Any]:
    outcomes: dict[str, int] = {}
    for query in queries:
        outcomes[query.answer.outcome] = outcomes.get(query.answer.outcome, 0) + 1
    totals = totals_of(history)
    return {
        "outcomes": outcomes,
        "left": run.counts.left if run else 0,
        "has_events": bool(history.sessions),
        "skipped_lines": history.num_skipped_lines,
        "tokens": totals.tokens.generated,
        "prompt_tokens": totals.tokens.prompt,
        "serving_s": serving_s,
        "rates": asdict(_rates(totals, history, run, serving_s)),
        "generation_s": totals.generation_s,
        "median_query_s": quantile(totals.query_seconds, 0.5),
        "p90_query_s": quantile(totals.query_seconds, 0.9),
        "api": asdict(totals.api),
        "num_texts": totals.tokens.texts,
        "num_cut": totals.tokens.cut,
        "cut_texts": warning_of(totals.tokens.texts, totals.tokens.cut),
        "tools": _tools(queries),
        "misses": misses_in_words(totals.api.calls, totals.api.not_recorded),
        "simulated": simulated_in_words(totals.api.calls, totals.api.simulated),
    }


def _rates(totals: Totals, history: History, run: RunRecord | None, serving_s: float) -> Rates:
    """Return the run's own where the folder has one run, as its display and table said them; else over all runs."""
    run_ids = {session.run_id for session in history.sessions}
    if run is not None and run_ids == {run.run_id} and run.rates != Rates():
        return run.rates
    return rates_of(num_ended=totals.num_ended, num_tokens=totals.tokens.generated, serving_s=serving_s)


def _tools(queries: Sequence[Query]) -> list[dict[str, Any]]:
    """Return calls by tool, those with the most errors first, then the most called."""
    tools: dict[str, dict[str, Any]] = {}
    for query in queries:
        for step in query.answer.steps():
            if step.action and step.action != FINISH_CALLS:
                tool = tools.setdefault(step.action, {"name": step.action, "calls": 0, "errors": 0, "missed": 0})
                tool["calls"] += 1
                tool["errors"] += step.is_error
                tool["missed"] += is_not_recorded(step.observation or "")
    ordered = sorted(tools.values(), key=lambda tool: (-tool["errors"] - tool["missed"], -tool["calls"], tool["name"]))
    return ordered[:_MOST_TOOLS]


def compressed(details: Sequence[Any]) -> str:
    """Return base64 of the zlib stream of the JSON, which the browser's DecompressionStream("deflate") unpacks."""
    text = json.dumps(details, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 9)).decode("ascii")


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
