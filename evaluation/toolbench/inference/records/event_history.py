"""Reads the event logs of a folder: what each replica did, query by query.

Whatever a crash left is read as far as it goes: a torn line is skipped and counted, a query or a replica
without an end was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.event_log import Doing
from evaluation.toolbench.json_input import JsonError, parse_json, read_file
from evaluation.toolbench.virtual_api.replies import CacheMatch

EVENT_FILES = "events-*.jsonl"


@dataclass(frozen=True)
class Generation:
    """Records what the model did for one step. Times in seconds, `start` since the epoch; tokens None if uncounted."""

    start: float
    seconds: float
    step: str  # fingerprint
    tokens: int | None = None
    prompt_tokens: int | None = None
    texts: int = 0  # generations without a constraint
    cut: int = 0  # of them, those that ended at the longest length


@dataclass(frozen=True)
class Call:
    """Records one call of the environment, with the contract's status code."""

    start: float
    seconds: float
    step: str
    code: int
    name: str
    cache: CacheMatch | None = None  # what the server's cache had for it


@dataclass(frozen=True)
class UnderWay:
    """Records a generation or a call that did not come to its end, such as one that took too long."""

    start: float
    seconds: float
    doing: Doing


@dataclass
class Attempt:
    """Records one try at a query. `outcome` is None while nothing says how it ended."""

    query_id: str
    start: float
    method: str = ""
    text: str = ""
    end: float | None = None
    outcome: str | None = None
    tokens: int | None = None
    error: dict[str, str] | None = None  # {"type", "message"}
    generations: list[Generation] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)  # of its steps, where it left no answer
    under_way: UnderWay | None = None  # when it ended

    def last_sign_of_life(self) -> float:
        """Return the end of the try, or of the last thing it is known to have done."""
        if self.end is not None:
            return self.end
        spans: list[Generation | Call] = [*self.generations[-1:], *self.calls[-1:]]
        return max((span.start + span.seconds for span in spans), default=self.start)


@dataclass(frozen=True)
class MemorySample:
    t: float
    gpu: str
    used_bytes: int
    total_bytes: int


@dataclass
class ReplicaSession:
    """Records a replica from one start to its end."""

    run_id: str
    replica: int
    start: float
    end: float  # of the last event
    gpus: list[str] = field(default_factory=list)
    num_conversations: int = 1
    load_s: float = 0.0  # before `start`
    has_ended: bool = False  # in good order
    attempts: list[Attempt] = field(default_factory=list)
    memory: list[MemorySample] = field(default_factory=list)


@dataclass
class History:
    """Holds all sessions of all replicas, by their start."""

    sessions: list[ReplicaSession] = field(default_factory=list)
    num_skipped_lines: int = 0

    def attempts(self) -> dict[tuple[str, str], list[Attempt]]:
        """Return {(query id, method): all tries, earliest first}."""
        by_query: dict[tuple[str, str], list[Attempt]] = {}
        for attempt in sorted((a for session in self.sessions for a in session.attempts), key=lambda a: a.start):
            by_query.setdefault((attempt.query_id, attempt.method), []).append(attempt)
        return by_query


def read_history(folder: Path) -> History:
    """Read the history in the event files of `folder`, empty without any. DataError for a file that cannot be read."""
    history = History()
    for path in sorted(folder.glob(EVENT_FILES)):
        reader = _FileReader(replica=_replica_of(path))
        for record in _records(path):
            try:
                reader.take(record)
            except (KeyError, TypeError, ValueError, AttributeError):
                history.num_skipped_lines += 1
        history.sessions += reader.sessions
    history.sessions.sort(key=_by_start)
    return history


def joined(histories: Iterable[History]) -> History:
    """Return the histories of several folders as one."""
    whole = History()
    for history in histories:
        whole.sessions += history.sessions
        whole.num_skipped_lines += history.num_skipped_lines
    whole.sessions.sort(key=_by_start)
    return whole


def _by_start(session: ReplicaSession) -> tuple[float, int]:
    return session.start, session.replica


class _FileReader:
    """Puts the events of one file together."""

    def __init__(self, replica: int) -> None:
        self.sessions: list[ReplicaSession] = []
        self._replica = replica
        self._open: dict[tuple[str, str | None], Attempt] = {}  # by query id and method

    def take(self, record: dict[str, Any]) -> None:
        """Add one event. A malformed one raises KeyError, TypeError, ValueError or AttributeError."""
        t, event = float(record["t"]), record["event"]
        if event == "replica_start":
            self._open.clear()
            self.sessions.append(
                ReplicaSession(
                    run_id=str(record["run"]),
                    replica=int(record["replica"]),
                    start=t,
                    end=t,
                    gpus=[str(gpu) for gpu in record["gpus"]],
                    num_conversations=max(1, int(record["num_conversations"])),
                    load_s=max(0.0, float(record.get("load_s", 0.0))),
                )
            )
            return
        session = self._session(t)
        if event == "query_start":
            attempt = Attempt(str(record["query"]), t, str(record["method"]), str(record["text"]))
            session.attempts.append(attempt)
            self._open[attempt.query_id, attempt.method] = attempt
        elif event == "generation":
            tokens, prompt_tokens = _count(record["tokens"]), _count(record["prompt_tokens"])
            texts, cut = int(record.get("texts", 0)), int(record.get("cut", 0))
            seconds, step = float(record["seconds"]), str(record["step"])
            generation = Generation(t, seconds, step, tokens, prompt_tokens, texts, cut)
            self._attempt(session, record, t).generations.append(generation)
            t += generation.seconds
        elif event == "call":
            seconds, cache = float(record["seconds"]), _cache_match(record.get("cache"))
            call = Call(t, seconds, str(record["step"]), int(record["code"]), str(record["name"]), cache)
            self._attempt(session, record, t).calls.append(call)
            t += call.seconds
        elif event == "under_way":
            doing: Doing = "call" if record["doing"] == "call" else "generation"
            self._attempt(session, record, t).under_way = UnderWay(t, float(record["seconds"]), doing)
        elif event == "texts":
            by_step = {str(step): _strings(said) for step, said in record["texts"].items()}
            self._attempt(session, record, t).texts = by_step
        elif event == "query_end":
            outcome, tokens, error = str(record["outcome"]), _count(record["tokens"]), _error(record["error"])
            attempt = self._attempt(session, record, t)
            attempt.end, attempt.outcome, attempt.tokens, attempt.error = t, outcome, tokens, error
            self._open = {key: each for key, each in self._open.items() if each is not attempt}
        elif event == "memory":
            session.memory.append(MemorySample(t, str(record["gpu"]), int(record["used"]), int(record["total"])))
        elif event == "replica_end":
            session.has_ended = True
        session.end = max(session.end, t)

    def _session(self, t: float) -> ReplicaSession:
        if not self.sessions:  # its first line is torn
            self.sessions.append(ReplicaSession(run_id="", replica=self._replica, start=t, end=t))
        return self.sessions[-1]

    def _attempt(self, session: ReplicaSession, record: dict[str, Any], t: float) -> Attempt:
        query_id, method = str(record["query"]), record.get("method")
        # Earlier versions wrote the method into the line of its start alone.
        key = next((key for key in self._open if key[0] == query_id and method in (None, key[1])), None)
        if key is None:  # the line of its start is torn
            key = query_id, method
            self._open[key] = Attempt(query_id, t)
            session.attempts.append(self._open[key])
        return self._open[key]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects in the lines of `path`; an empty dict for a line that is not a JSON object."""
    try:
        lines = read_file(path).split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read the events in {path}: {error.strerror}") from error
    for line in lines:
        if not line.strip():
            continue
        try:
            record = parse_json(line, finite=True)  # curves could not be drawn with other numbers
        except JsonError:
            record = {}
        yield record if isinstance(record, dict) else {}


def _strings(said: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in said.items()}


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _cache_match(value: Any) -> CacheMatch | None:
    return value if value in get_args(CacheMatch) else None


def _error(value: Any) -> dict[str, str] | None:
    return None if value is None else {"type": str(value["type"]), "message": str(value["message"])}


def _replica_of(path: Path) -> int:
    number = path.stem.rpartition("-")[2]  # a shard's name may stand before it
    return int(number) if number.isdecimal() else 0
