"""Lays the figures of a run out: as one line, or as the frame of a live display. Pure: nothing is written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, JustifyMethod
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evaluation.toolbench.inference.multi_gpu.units import GIB
from evaluation.toolbench.inference.run_display.figures import RATE_OVER_S, Figures
from evaluation.toolbench.inference.run_display.status import ReplicaStatus, SetStatus

_STATE_STYLES = {
    "running": "green",
    "loading": "cyan",
    "compiling": "cyan",
    "restarting": "yellow",
    "failed": "red",
    "ended": "dim",
}
_BETWEEN = " · "
_MOST_NAMED = 2  # replicas that a line has one by one
_FEWEST_ROWS = 3  # of replicas: the heading, the first one, and how many more there are


def heartbeat(figures: Figures) -> str:
    """Return everything in one line, for logs."""
    sets = [f"{each.name} {each.done:,}/{each.num_queries:,}" for each in figures.status.sets]
    parts = [_queries(figures), *_outcomes(figures), *_rates(figures), *_api(figures), *_replicas(figures), *sets]
    return _BETWEEN.join(filter(None, [*parts, *_times(figures)]))


def frame(figures: Figures, width: int, height: int | None = None) -> Group:
    """Return what a terminal of `width` columns shows: a bar, the counts, and a row for every set and replica.

    Where these are more than `height` lines, what matters most is kept: first the rows of sets go, then the rates, most
    counts, and the last replicas.
    """
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    total, done = max(1, figures.status.num_queries), figures.done
    bar.add_row(ProgressBar(total=total, completed=done, complete_style="green"), Text(_queries(figures)))
    left = f"{figures.left:,} left"
    counts = _lines([*_outcomes(figures), left, *_times(figures)], width)
    rates = _lines([*_rates(figures), *_api(figures)], width)
    sets, replicas = figures.status.sets, figures.status.replicas
    room = (height or 10_000) - 1  # beside the bar
    if len(counts) + len(rates) + _FEWEST_ROWS > room:
        rates = []
    if len(counts) + _FEWEST_ROWS > room:
        counts = _lines([left, f"{figures.status.failed:,} failed", *_times(figures)[-1:]], width)
    room -= len(counts) + len(rates)
    set_room = min(len(sets), room - len(replicas) - 2)  # without the tables' headings
    has_sets = set_room > 0
    replica_room = room - 1 - (set_room + 1 if has_sets else 0)
    return Group(
        bar,
        *counts,
        *rates,
        *([_set_table(sets, width, set_room)] if has_sets else []),
        *([_replica_table(figures, width, replica_room)] if replica_room > 0 else []),
    )


def clock(seconds: float) -> str:
    """
    >>> clock(9.4), clock(754), clock(7384)
    ('0:09', '12:34', '2:03:04')
    """
    whole = round(seconds)
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return f"{whole // 3600}:{minutes:0>5}" if whole >= 3600 else minutes


@dataclass(frozen=True)
class _Column:
    """Describes one column of a table. Where they do not all fit, the most important ones that do are shown."""

    heading: str
    cell: Callable[..., str]  # of the figures and a replica, or of a set
    importance: int
    is_number: bool = True


_COLUMNS = (
    _Column("", lambda _, replica: replica.name, importance=9, is_number=False),
    _Column("GPUs", lambda _, replica: _gpus(replica.gpus), importance=3, is_number=False),
    _Column("state", lambda _, replica: replica.state, importance=8, is_number=False),
    _Column("in flight", lambda _, replica: str(replica.in_flight), importance=7),
    _Column(f"tokens/s ({RATE_OVER_S:.0f} s)", lambda figures, replica: _replica_rate(figures, replica), importance=5),
    _Column("prompt tokens/s", lambda figures, replica: _prompt_rate(figures, replica), importance=0),
    _Column("API calls", lambda figures, replica: _calls(figures, replica.api_calls), importance=1),
    _Column("errors", lambda figures, replica: _calls(figures, replica.api_errors), importance=2),
    _Column("GPU memory", lambda _, replica: _memory(replica.gpu_memory), importance=6),
    _Column("GPU busy", lambda _, replica: _busy(replica.gpu_busy), importance=4),
)
_SET_COLUMNS = (
    _Column("set", lambda each: each.name, importance=9, is_number=False),
    _Column("done", lambda each: f"{each.done:,}/{each.num_queries:,}", importance=8),
    _Column("answered", lambda each: f"{each.answered:,}", importance=7),
    _Column("gave up", lambda each: f"{each.gave_up:,}", importance=5),
    _Column("no answer", lambda each: f"{each.no_answer:,}", importance=4),
    _Column("failed", lambda each: f"{each.failed:,}", importance=6),
)
_GAP = 2  # blanks between columns


def _replica_table(figures: Figures, width: int, height: int) -> Table:
    cells = {column: [column.cell(figures, replica) for replica in figures.status.replicas] for column in _COLUMNS}
    return _table({column: texts for column, texts in cells.items() if any(texts)}, width, height)


def _set_table(sets: Sequence[SetStatus], width: int, height: int) -> Table:
    return _table({column: [column.cell(each) for each in sets] for column in _SET_COLUMNS}, width, height)


def _table(cells: Mapping[_Column, Sequence[str]], width: int, height: int) -> Table:
    """Return a table of at most `height` rows under its heading; the last one then says how many more there are."""
    num_rows = max(map(len, cells.values()))
    num_shown = num_rows if num_rows <= height else height - 1
    cells = {column: texts[:num_shown] for column, texts in cells.items()}
    widths = {column: max(map(len, [column.heading, *texts])) + _GAP for column, texts in cells.items()}
    shown: set[_Column] = set()
    for column in sorted(cells, key=lambda column: -column.importance):
        if not shown or sum(widths[each] for each in [*shown, column]) - _GAP <= width:
            shown.add(column)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
    for column in cells:
        if column in shown:
            justify: JustifyMethod = "right" if column.is_number else "left"
            table.add_column(column.heading, justify=justify, no_wrap=True, overflow="ellipsis")
    for row in zip(*(texts for column, texts in cells.items() if column in shown), strict=True):
        table.add_row(*(Text(text, style=_STATE_STYLES.get(text, "")) for text in row))
    if num_shown < num_rows:
        table.add_row(f"+ {num_rows - num_shown}")
    return table


def _lines(parts: Sequence[str], width: int) -> list[Text]:
    """Return the parts one after another, each whole where `width` allows it."""
    lines: list[str] = []
    for part in filter(None, parts):
        if lines and len(lines[-1] + _BETWEEN + part) <= width:
            lines[-1] += _BETWEEN + part
        else:
            lines.append(part)
    return [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]


def _queries(figures: Figures) -> str:
    return f"{figures.done:,} of {figures.status.num_queries:,} queries"


def _outcomes(figures: Figures) -> list[str]:
    status = figures.status
    if not status.are_conversations:
        return [f"{status.failed:,} failed"]
    return [
        f"{status.answered:,} answered",
        f"{status.gave_up:,} gave up",
        f"{status.no_answer:,} no answer",
        f"{status.failed:,} failed",
    ]


def _rates(figures: Figures) -> list[str]:
    if figures.status.serving_s is None:
        return [figures.status.phase]
    rates = figures.rates
    queries = rates.queries_per_min if figures.done else None
    has_tokens = figures.status.are_conversations
    return [
        "" if queries is None else f"{queries:,.{0 if queries >= 100 else 1}f} queries/min",
        "" if rates.tokens_per_s is None or not has_tokens else f"{rates.tokens_per_s:,.0f} tokens/s",
    ]


def _replica_rate(figures: Figures, replica: ReplicaStatus) -> str:
    rate = figures.replica_tokens_per_s.get(replica.name) if figures.status.are_conversations else None
    return "" if rate is None else f"{rate:,.0f}"


def _prompt_rate(figures: Figures, replica: ReplicaStatus) -> str:
    rate = figures.replica_prompt_tokens_per_s.get(replica.name) if replica.num_prompt_tokens else None
    return "" if rate is None else f"{rate:,.0f}"


def _calls(figures: Figures, number: int) -> str:
    return f"{number:,}" if figures.status.are_conversations else ""


def _api(figures: Figures) -> list[str]:
    if not figures.status.are_conversations:
        return []
    calls, errors, cache = figures.api_calls, figures.api_errors, figures.cache
    fuzzy = f" ({cache.fuzzy_hits:,} fuzzy)" if cache.fuzzy_hits else ""
    return [
        f"{calls:,} API call{'s' * (calls != 1)}",
        f"{cache.hits:,} hit{'s' * (cache.hits != 1)}{fuzzy}" if cache.hits else "",
        f"{cache.simulated:,} simulated ({cache.simulated / calls:.1%})" if cache.simulated else "",
        f"{cache.misses:,} not recorded ({cache.misses / calls:.1%})" if cache.misses else "",
        f"{errors:,} error{'s' * (errors != 1)}" + (f" ({errors / calls:.1%})" if errors else ""),
    ]


def _times(figures: Figures) -> list[str]:
    elapsed = f"{clock(figures.status.elapsed_s)} elapsed"
    return [elapsed] if figures.left_s is None else [elapsed, f"about {clock(figures.left_s)} to go"]


def _replicas(figures: Figures) -> list[str]:
    """Name a few one by one, many by their states."""
    replicas = figures.status.replicas
    if len(replicas) <= _MOST_NAMED:
        return [_replica_words(replica) for replica in replicas]
    states = Counter(replica.state for replica in replicas)
    counted = ", ".join(f"{number} {state}" for state, number in states.items())
    memory = [gpu for replica in replicas for gpu in replica.gpu_memory]
    gpus = _gpu_words(memory, [percent for replica in replicas for percent in replica.gpu_busy])
    return [f"{len(replicas)} replicas: {counted}, {figures.in_flight} in flight{gpus}"]


def _replica_words(replica: ReplicaStatus) -> str:
    doing = f"{replica.in_flight} in flight" if replica.state == "running" else replica.state
    return f"{replica.name}: {doing}{_gpu_words(replica.gpu_memory, replica.gpu_busy)}"


def _gpu_words(memory: Sequence[tuple[int, int]], busy: Sequence[int | None]) -> str:
    said = [_memory(memory) if memory else "", f"GPU busy {_busy(busy)}" if busy else ""]
    return "".join(f", {each}" for each in said if each)


def _gpus(names: Sequence[str]) -> str:
    """
    >>> _gpus(["cuda:0", "cuda:1", "cuda:2"]), _gpus(["cuda:0", "cuda:3"]), _gpus([])
    ('cuda:0-2', 'cuda:0, cuda:3', '')
    """
    numbers = [int(name.removeprefix("cuda:")) for name in names if name.removeprefix("cuda:").isdecimal()]
    if len(names) > 2 and numbers == list(range(numbers[0], numbers[0] + len(names))):
        return f"cuda:{numbers[0]}-{numbers[-1]}"
    return ", ".join(names)


def _memory(gpus: Sequence[tuple[int, int]]) -> str:
    """
    >>> _memory([(61 * GIB, 80 * GIB), (8 * GIB, 24 * GIB)]), _memory([(20 * GIB, 24 * GIB)] * 3)
    ('61.0/80.0 + 8.0/24.0 GiB', '3 x 20.0/24.0 GiB')
    """
    amounts = [f"{used / GIB:.1f}/{total / GIB:.1f}" for used, total in gpus]
    if len(amounts) > 2:
        if len(set(amounts)) == 1:
            return f"{len(amounts)} x {amounts[0]} GiB"
        return f"{sum(used for used, _ in gpus) / GIB:.0f}/{sum(total for _, total in gpus) / GIB:.0f} GiB"
    return " + ".join(amounts) + (" GiB" if amounts else "")


def _busy(percents: Sequence[int | None]) -> str:
    """
    >>> _busy([97]), _busy([97, None]), _busy([90, 100, None]), _busy([None] * 8), _busy([])
    ('97%', '97% + N/A', 'mean 95%', 'N/A', '')
    """
    known = [percent for percent in percents if percent is not None]
    if not known:
        return "N/A" if percents else ""
    if len(percents) > 2:
        return f"mean {sum(known) / len(known):.0f}%"
    return " + ".join("N/A" if percent is None else f"{percent}%" for percent in percents)
