"""Runs the beam searches of a prompt, over an engine that scores their continuations.

A prompt is read once. Every beam of every later step is a branch of the one before: an engine that keeps pages reads
one token for it. Searches of several widths for the same prompt go in step and share their scores.

One thread moves all searches of a replica on: a step of the engine ends those of many prompts at once, and threads of
their own would take turns with each other and, what is worse, with the engine's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.request import Engine, ScoringRequest, ScoringResult
from evaluation.toolbench.inference.errors import StopRequested
from evaluation.toolbench.retrieval.beam_search import BeamSearch, Hypothesis, SearchRules

Path = tuple[int, ...]
Found = dict[int, list[Hypothesis]]  # by the width of the search, best first


class PromptSearch:
    """Follows the searches of one prompt, one for each width. Pure: `requests`, then `take` their results, in turn,
    until `is_over`.

    `trie` limits what may be generated; None: nothing does.
    """

    def __init__(
        self, name: str, prompt_ids: Sequence[int], rules: SearchRules, widths: Sequence[int], trie: TokenTrie | None
    ) -> None:
        self._name = name
        self._prompt_ids = list(prompt_ids)
        self._rules = rules
        self._trie = trie
        self._searches = {width: BeamSearch(width, rules) for width in widths}
        self._nodes: dict[Path, int] = {(): TokenTrie.ROOT}  # of the paths that are scored now
        self._kept: list[str] = []  # conversations of the step before, which this step's paths are branches of
        self._asked: dict[Path, ScoringRequest] = {}

    @property
    def is_over(self) -> bool:
        return all(search.is_over for search in self._searches.values())

    @property
    def results(self) -> Found:
        """Return the results by width, best first; they are complete once it is over."""
        return {width: search.results for width, search in self._searches.items()}

    def requests(self) -> list[ScoringRequest]:
        """Say what has to be scored now: every beam of every search that goes on, once."""
        num_best = max(search.num_wanted for search in self._open())
        paths = dict.fromkeys(beam.token_ids for search in self._open() for beam in search.beams)
        self._asked = {path: self._request(path, num_best) for path in paths}
        return list(self._asked.values())

    def take(self, scores: Sequence[ScoringResult]) -> list[str]:
        """Advance with the results of `requests`; returns the conversations that are of no more use."""
        continuations = dict(zip(self._asked, scores, strict=True))
        for search in self._open():
            search.advance([continuations[beam.token_ids] for beam in search.beams])
        ended, self._kept = self._kept, [each.conversation_id for each in self._asked.values() if each.conversation_id]
        if self.is_over:
            return ended + self.forget()
        following = {beam.token_ids for search in self._open() for beam in search.beams}
        if self._trie is not None:
            self._nodes = {path: self._trie.step(self._nodes[path[:-1]], path[-1]) for path in following}
        return ended

    def forget(self) -> list[str]:
        """Return the conversations that are held at the moment, those of requests on their way included."""
        asked = (each.conversation_id for each in self._asked.values())
        ended = list(dict.fromkeys([*self._kept, *(name for name in asked if name)]))
        self._kept, self._asked = [], {}
        return ended

    def _open(self) -> Iterator[BeamSearch]:
        return (search for search in self._searches.values() if not search.is_over)

    def _request(self, path: Path, num_best: int) -> ScoringRequest:
        node = self._nodes[path] if self._trie is not None else TokenTrie.ROOT
        goes_on = len(path) + 1 < self._rules.max_new_tokens and not (self._trie and self._trie.is_leaf(node))
        return ScoringRequest(
            [*self._prompt_ids, *path],
            num_best,
            self._trie,
            node,
            conversation_id=self._conversation(path) if goes_on else None,
            parent_id=self._conversation(path[:-1]) if path else None,
            repetition_penalty=self._rules.repetition_penalty,
        )

    def _conversation(self, path: Path) -> str:
        return ".".join([self._name, *map(str, path)])


@dataclass(frozen=True, slots=True)
class _Running:
    search: PromptSearch
    outcome: Future[Found] = field(default_factory=Future)
    scores: Future[list[ScoringResult]] | None = None  # of its last requests


class SearchThread:
    """Runs any number of searches over `engine` at once. None goes on to another step once `is_stopped`."""

    def __init__(self, engine: Engine, is_stopped: Callable[[], bool] = lambda: False) -> None:
        self._engine = engine
        self._is_stopped = is_stopped
        self._ready: queue.SimpleQueue[_Running | None] = queue.SimpleQueue()  # to take their next step
        self._thread = threading.Thread(target=self._run, name="searches", daemon=True)
        self._thread.start()

    def start(self, search: PromptSearch) -> Future[Found]:
        """Begin `search`; the future has its results by width, best first.

        Its error is an EngineError when a request cannot be served, StopRequested when the searches were stopped.
        """
        running = _Running(search)
        self._ready.put(running)
        return running.outcome

    def close(self) -> None:
        """Leave what has not ended as it is."""
        self._ready.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (running := self._ready.get()) is not None:
            self._advance(running)

    def _advance(self, running: _Running) -> None:
        search = running.search
        try:
            if running.scores is not None:
                self._end(search.take(running.scores.result()))
            if search.is_over:
                running.outcome.set_result(search.results)
                return
            if self._is_stopped():
                raise StopRequested
            scores = self._engine.score_all(search.requests())
        except (Exception, StopRequested) as error:
            self._end(search.forget())
            running.outcome.set_exception(error)
            return
        scores.add_done_callback(lambda scores: self._ready.put(_Running(search, running.outcome, scores)))

    def _end(self, conversations: Iterable[str]) -> None:
        for conversation_id in conversations:
            self._engine.end_conversation(conversation_id)
