"""Writes what happens during a run: one line of JSON per event, one file per replica, beside the answers.

A line is written whole by one system call, so that a killed process leaves at most its last line torn;
`event_history.py` reads the files back. Times are seconds since the epoch, durations are seconds.

    event          further keys
    replica_start  t, run, replica, pid, gpus, num_conversations, load_s (what loading took until then)
    query_start    t, query, method, text
    generation     t (of its start), query, method, seconds, tokens, prompt_tokens, step, texts, cut (see
                   `cut_texts.py`; only if there were texts)
    call           t (of its start), query, method, seconds, code, name, step, cache (hit, fuzzy, simulated or
                   miss, if the server tells)
    texts          t, query, method, texts (of each step: thought, arguments, observation), where an error leaves no
                   answer file
    under_way      t (of its start), query, method, seconds, doing (generation or call): what the end of the try cut off
    query_end      t, query, method, outcome, tokens, error
    memory         t, gpu, used, total (bytes)
    replica_end    t

`step` is a fingerprint of what the model said (see `step_fingerprint`): it leads from a node of the
answer's tree to the events that made it, however the tree was searched.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.finish import FINAL_ANSWER, GAVE_UP
from evaluation.toolbench.inference.records.json_lines import JsonLines
from evaluation.toolbench.virtual_api.replies import CacheMatch

logger = logging.getLogger(__name__)

Doing = Literal["generation", "call"]

_LONGEST_TEXT = 4000  # characters of a thought, of arguments and of an observation
_LONGEST_MESSAGE = 2000  # characters of an error's text that are kept


def step_fingerprint(name: str | None, text: str) -> str:
    """Name a step in a few characters: by the call's function and arguments, or (name None) of a mere thought."""
    what = f"{name}\0{text}" if name is not None else text
    return hashlib.blake2b(what.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def event_file(folder: Path, replica: int, shard: str = "") -> Path:
    return folder / f"events-{f'{shard}-' if shard else ''}{replica}.jsonl"


class EventLog:
    """Writes the log of one replica, appended to by any number of its threads.

    Opening raises OutputError. Later failures to write (a full disk) cost events and never an answer: the
    first one is logged.
    """

    def __init__(
        self,
        folder: Path,
        replica: int = 0,
        *,
        run_id: str,
        gpus: Sequence[str] = (),
        num_conversations: int = 1,
        load_s: float = 0.0,
        shard: str = "",
    ) -> None:
        """`run_id` is the same for all replicas of one start of the program, `num_conversations` how many
        this replica has in flight at most, `load_s` what its model took to load until now; runs of different `shard`
        may have the folder at once."""
        self.path = event_file(folder, replica, shard)
        self._lock = threading.Lock()
        self._epoch = time.time() - time.perf_counter()  # so that a wall-clock adjustment cannot distort durations
        self._has_failed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: JsonLines | None = JsonLines(self.path)
        except OSError as error:
            raise OutputError(f"cannot write the run's events to {self.path}: {error.strerror}") from error
        self.write(
            "replica_start",
            run=run_id,
            replica=replica,
            pid=os.getpid(),
            gpus=list(gpus),
            num_conversations=num_conversations,
            load_s=round(load_s, 3),
        )

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return self._epoch + time.perf_counter()

    def write(self, event: str, t: float | None = None, **values: Any) -> None:
        """Append one event; `t` is now unless told."""
        record = {"t": round(self.now() if t is None else t, 4), "event": event, **values}
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.append(record)
            except OSError as error:
                if not self._has_failed:
                    logger.warning("events are being lost: cannot write to %s: %s", self.path, error.strerror)
                self._has_failed = True

    @contextmanager
    def query(self, query_id: str, *, method: str = "", text: str = "") -> Iterator[QueryRecorder]:
        """Yield the recorder of one try at a query, to be given to the search as a callback.

        Leaving the block ends the try: with what the search found, or as failed with the exception.
        """
        recorder = QueryRecorder(self, query_id, method=method, text=text)
        try:
            yield recorder
        except Exception as error:
            recorder.end("failed", error)
            raise
        except BaseException as error:  # the run is being stopped, which is not the query's fault
            recorder.end("interrupted", error)
            raise
        else:
            recorder.end(recorder.outcome)

    def close(self) -> None:
        """Write the end of the replica. Later events are dropped."""
        self.write("replica_end")
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class QueryRecorder:
    """Records one try at a query, as a callback of its search: `on_llm_start`, `on_llm_end`, `on_tool_start`,
    `on_tool_end`. A search calls these from one thread; `count_tokens` may come from any.
    """

    def __init__(self, log: EventLog, query_id: str, *, method: str = "", text: str = "") -> None:
        self.query_id = query_id
        self.outcome = "no_answer"  # until a call gives an answer or up
        self._log = log
        self._method = method
        self._lock = threading.Lock()
        self._generation_start = self._call_start = log.now()
        self._under_way: Doing | None = None
        self._call: tuple[str, str] = ("", "")  # function name, arguments
        self._cache: CacheMatch | None = None  # what the server's had for it
        self._generated_tokens: int | None = None  # all of this query's; None until some are counted
        self._tokens_at_start = 0  # of the step
        self._prompt_tokens: int | None = None  # of the step's longest prompt
        self._texts = self._cut = 0  # of the step: generations without a constraint, and those cut at their longest
        self._said: dict[str, dict[str, str]] = {}  # by step, for the case that there will be no answer file
        self._write("query_start", text=text)

    def count_tokens(self, generated: int, prompt: int, was_cut: bool | None = None) -> None:
        """Add one generation of the engine to the step in progress; `was_cut` None is one under a constraint."""
        with self._lock:
            self._generated_tokens = (self._generated_tokens or 0) + generated
            self._prompt_tokens = max(self._prompt_tokens or 0, prompt)
            self._texts += was_cut is not None
            self._cut += bool(was_cut)

    def on_llm_start(self, depth: int, messages: Sequence[dict[str, Any]]) -> None:
        with self._lock:
            self._generation_start = self._log.now()
            self._under_way = "generation"
            self._tokens_at_start = self._generated_tokens or 0
            self._prompt_tokens = None
            self._texts = self._cut = 0

    def on_llm_end(self, depth: int, response: dict[str, Any]) -> None:
        with self._lock:
            start, prompt_tokens = self._generation_start, self._prompt_tokens
            tokens = (self._generated_tokens or 0) - self._tokens_at_start if prompt_tokens is not None else None
            texts = {"texts": self._texts, "cut": self._cut} if self._texts else {}
        self._under_way = None
        step = _fingerprint(response)
        self._said[step] = _texts(response)
        self._write_span("generation", start, tokens=tokens, prompt_tokens=prompt_tokens, step=step, **texts)

    def note_cache(self, match: CacheMatch | None) -> None:
        """Note what the server's cache had for the call in progress, before it ends."""
        self._cache = match

    def on_tool_start(self, depth: int, tool_name: str, tool_input: str) -> None:
        self._call = (tool_name, tool_input)
        self._cache = None
        self._call_start = self._log.now()
        self._under_way = "call"

    def on_tool_end(self, depth: int, output: str, status: int) -> None:
        if status == FINAL_ANSWER:
            self.outcome = "answered"
        elif status == GAVE_UP and self.outcome != "answered":
            self.outcome = "gave_up"
        self._under_way = None
        cache = {"cache": self._cache} if self._cache else {}
        step = step_fingerprint(*self._call)
        self._said.setdefault(step, {})["observation"] = output[:_LONGEST_TEXT]
        self._write_span("call", self._call_start, code=status, name=self._call[0], step=step, **cache)

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        with self._lock:
            tokens = self._generated_tokens
        if self._under_way:
            start = self._generation_start if self._under_way == "generation" else self._call_start
            self._write_span("under_way", start, doing=self._under_way)
        if outcome == "failed" and self._said:
            self._write("texts", texts=self._said)
        problem = {"type": type(error).__name__, "message": str(error)[:_LONGEST_MESSAGE]} if error else None
        self._write("query_end", outcome=outcome, tokens=tokens, error=problem)

    def _write_span(self, event: str, start: float, **values: Any) -> None:
        seconds = round(self._log.now() - start, 4)
        self._write(event, start, seconds=seconds, **values)

    def _write(self, event: str, t: float | None = None, **values: Any) -> None:
        self._log.write(event, t, query=self.query_id, method=self._method, **values)


def _texts(message: dict[str, Any]) -> dict[str, str]:
    """Return what an assistant's message says, as far as it is kept."""
    call = message["tool_calls"][0]["function"] if message.get("tool_calls") else message.get("function_call")
    said = {"thought": message.get("content"), "arguments": call["arguments"] if call else None}
    return {name: str(text)[:_LONGEST_TEXT] for name, text in said.items() if text}


def _fingerprint(message: dict[str, Any]) -> str:
    """Name the step in an assistant's message: its first call, or its text."""
    call = message["tool_calls"][0]["function"] if message.get("tool_calls") else message.get("function_call")
    if call:
        return step_fingerprint(str(call["name"]), str(call["arguments"]))
    return step_fingerprint(None, message.get("content") or "")
