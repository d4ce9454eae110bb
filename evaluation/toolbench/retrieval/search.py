"""Runs the beam searches of a prompt, over an engine that scores their continuations.

A prompt is read once. Every beam of every later step is a branch of the one before: an engine that keeps pages reads
one token for it. Searches of several widths for the same prompt go in step and share their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future

import numpy as np

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.request import Engine, ScoringRequest, ScoringResult
from evaluation.toolbench.inference.errors import StopRequested
from evaluation.toolbench.retrieval.beam_search import BeamSearch, Continuations, Hypothesis, SearchRules

Path = tuple[int, ...]


class PromptSearch:
    """Follows the searches of one prompt, one for each width. Pure: `requests`, then `take` what came, until `is_over`.

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
    def results(self) -> dict[int, list[Hypothesis]]:
        """Return the results by width, best first; they are complete once it is over."""
        return {width: search.results for width, search in self._searches.items()}

    def requests(self) -> Mapping[Path, ScoringRequest]:
        """Say what has to be scored now: every beam of every search that goes on, once."""
        num_best = max(search.num_wanted for search in self._open())
        paths = dict.fromkeys(beam.token_ids for search in self._open() for beam in search.beams)
        self._asked = {path: self._request(path, num_best) for path in paths}
        return self._asked

    def take(self, scores: Mapping[Path, ScoringResult]) -> list[str]:
        """Advance with the results of `requests`; returns the conversations that are of no more use."""
        continuations = {path: _continuations(result) for path, result in scores.items()}
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


def run_search(
    engine: Engine, search: PromptSearch, is_stopped: Callable[[], bool] = lambda: False
) -> dict[int, list[Hypothesis]]:
    """Return the results of `search` by width, once `engine` has scored everything that it asks for.

    EngineError when a request cannot be served; StopRequested instead of another step once `is_stopped`.
    """
    futures: dict[Path, Future[ScoringResult]] = {}
    try:
        while not search.is_over:
            if is_stopped():
                raise StopRequested
            futures = {path: engine.score(request) for path, request in search.requests().items()}
            _end(engine, search.take({path: future.result() for path, future in futures.items()}))
    finally:
        for future in futures.values():
            future.cancel()
        _end(engine, search.forget())
    return search.results


def _end(engine: Engine, conversations: Iterable[str]) -> None:
    for conversation_id in conversations:
        engine.end_conversation(conversation_id)


def _continuations(result: ScoringResult) -> Continuations:
    return Continuations(
        np.array(result.token_ids, dtype=np.int64), np.array(result.log_probabilities, dtype=np.float32)
    )
