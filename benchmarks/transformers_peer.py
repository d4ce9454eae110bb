"""Puts transformers' own continuous batching behind our engine interface: the peer with no more needs than we."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from evaluation.toolbench.inference.engine.request import Engine, GenerationRequest, GenerationResult
from evaluation.toolbench.inference.errors import EngineError

_POLL_S = 0.2  # how soon `close` is noticed; a result wakes its waiter at once


class TransformersEngine(Engine):
    """Generates greedily, without constraints or stop ids, as the benchmark asks. One thread hands results on.

    `attention` is an attention implementation of transformers, or None for the one that it takes by itself.
    """

    def __init__(self, model: PreTrainedModel, *, attention: str | None = None) -> None:
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self.max_length = int(model.config.max_position_embeddings)
        if attention is not None:
            model.set_attn_implementation(attention)
        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        self._manager: Any = model.init_continuous_batching(generation_config=config)  # typed differently by version
        self._manager.start()
        self._waiting: dict[str, Future[GenerationResult]] = {}
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._hand_on, name="transformers-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        if request.constraint is not None or len(request.stop_ids) or request.sampling.temperature > 0:
            raise EngineError("transformers' continuous batching is measured without constraints, stops and sampling")
        future: Future[GenerationResult] = Future()
        with self._lock:  # the result must not come before its waiter is known
            request_id = self._manager.add_request(
                list(request.prompt_ids), max_new_tokens=request.max_new_tokens, eos_token_id=-1
            )
            if request_id is None:
                raise EngineError("transformers' continuous batching has stopped and takes no further request")
            self._waiting[request_id] = future
        return future

    def generate(self, request: GenerationRequest) -> GenerationResult:
        return self.submit(request).result()

    def end_conversation(self, conversation_id: str) -> None:
        """Do nothing: it keeps pages by their content, not by conversation."""

    def close(self) -> None:
        self._is_closed.set()
        self._manager.stop(block=True)
        self._thread.join()

    def _hand_on(self) -> None:
        while not self._is_closed.is_set():
            output = self._manager.get_result(timeout=_POLL_S)
            if output is None:
                if not self._manager.is_running():
                    self._fail_all("transformers' continuous batching has stopped")
                continue
            with self._lock:
                future = self._waiting.pop(output.request_id)
            if output.error is not None:
                future.set_exception(EngineError(f"transformers' continuous batching: {output.error}"))
            else:
                future.set_result(GenerationResult(tuple(output.generated_tokens), "length"))

    def _fail_all(self, why: str) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(EngineError(why))
