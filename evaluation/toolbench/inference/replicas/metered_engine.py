"""An engine that counts tokens for the query in whose thread it is asked."""

from __future__ import annotations

from concurrent.futures import Future

from evaluation.toolbench.inference.engine.request import (
    Engine,
    GenerationRequest,
    GenerationResult,
    ScoringRequest,
    ScoringResult,
)
from evaluation.toolbench.inference.records.event_log import QueryRecorder, current_recorder


class MeteredEngine:
    """Passes everything on to `engine`, and the tokens of every generation to `current_recorder()`.

    `generate` has counted when it returns. With `submit` a waiter may see the result an instant earlier.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.vocab_size = engine.vocab_size
        self.max_length = engine.max_length

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        future = self._engine.submit(request)
        recorder = current_recorder()
        if recorder is not None:
            future.add_done_callback(lambda done: _count_if_done(recorder, request, done))
        return future

    def generate(self, request: GenerationRequest) -> GenerationResult:
        result = self._engine.generate(request)
        recorder = current_recorder()
        if recorder is not None:
            _count(recorder, request, result)
        return result

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        return self._engine.score(request)

    def end_conversation(self, conversation_id: str) -> None:
        self._engine.end_conversation(conversation_id)

    def close(self) -> None:
        self._engine.close()


def _count_if_done(recorder: QueryRecorder, request: GenerationRequest, done: Future[GenerationResult]) -> None:
    if not done.cancelled() and done.exception() is None:
        _count(recorder, request, done.result())


def _count(recorder: QueryRecorder, request: GenerationRequest, result: GenerationResult) -> None:
    recorder.count_tokens(generated=len(result.token_ids), prompt=len(request.prompt_ids))
