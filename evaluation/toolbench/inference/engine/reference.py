"""Serves as the reference engine: plain `model.generate`, one request at a time.

Slow on purpose: nothing is kept between requests and nothing is batched. Every other engine must give
the tokens that this one gives.
"""

from __future__ import annotations

import contextlib
import inspect
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from evaluation.toolbench.inference.engine.checks import (
    check_request,
    check_scoring,
    context_of,
    result_of,
    vocabulary_of,
)
from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.device import embedding_device
from evaluation.toolbench.inference.engine.device_constraint import (
    allowed_ids,
    allowed_tokens,
    device_trie,
    step_nodes,
)
from evaluation.toolbench.inference.engine.request import (
    Engine,
    GenerationRequest,
    GenerationResult,
    ScoringRequest,
    ScoringResult,
)
from evaluation.toolbench.inference.engine.sampling import SamplingRows, penalize, sample
from evaluation.toolbench.inference.engine.scoring import best_tokens, scoring_results
from evaluation.toolbench.inference.errors import EngineStoppedError

T = TypeVar("T")


class GenerateEngine(Engine):
    """Serves requests in the order in which they come, on a thread of its own."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.vocab_size = vocabulary_of(model)
        self.max_length = context_of(model)
        self._model: PreTrainedModel | None = model
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # orders submissions before or after close()
        self._closed = threading.Event()
        self._num_tokens = 0  # of the engine's thread alone
        self._thread = threading.Thread(
            target=_serve, args=(self._queue, self._closed), name="generate-engine", daemon=True
        )
        self._thread.start()
        # Whoever drops an engine, in a notebook say, gets its memory back.
        weakref.finalize(self, self._queue.put, None).atexit = False

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        return self._queue_up(lambda: self._run(request))

    def generate(self, request: GenerationRequest) -> GenerationResult:
        return self.submit(request).result()

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        return self._queue_up(lambda: self._score(request))

    def num_tokens(self) -> int:
        """Return the tokens drawn so far."""
        return self._num_tokens

    def end_conversation(self, conversation_id: str) -> None:
        """Do nothing: this engine keeps nothing between requests."""

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            self._queue.put(None)
        self._thread.join()
        self._model = None

    def _queue_up(self, work: Callable[[], T]) -> Future[T]:
        job = _Job(work, Future())
        with self._lock:
            if self._closed.is_set():
                raise EngineStoppedError("the engine is closed: no further request can be submitted")
            self._queue.put(job)
        return job.future

    def _run(self, request: GenerationRequest) -> GenerationResult:
        model = self._model
        assert model is not None  # close() waits for this thread before it lets go of the model
        max_new_tokens = check_request(request, vocab_size=self.vocab_size, max_length=self.max_length)
        prompt = torch.tensor([list(request.prompt_ids)], device=embedding_device(model))
        with torch.inference_mode(), _neutral_generation_config(model):
            output = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False),
                logits_processor=LogitsProcessorList([_ChooseToken(request, self.vocab_size, self._count_token)]),
                stopping_criteria=StoppingCriteriaList([_EndsWithToken(request, self.vocab_size)]),
            )
        return result_of(request, output[0, prompt.shape[1] :].tolist())

    def _count_token(self) -> None:
        self._num_tokens += 1

    @torch.inference_mode()
    def _score(self, request: ScoringRequest) -> ScoringResult:
        model = self._model
        assert model is not None
        check_scoring(request, vocab_size=self.vocab_size, max_length=self.max_length)
        prompt = torch.tensor([list(request.prompt_ids)], device=embedding_device(model))
        # The output embedding of a large vocabulary is for the last token alone, in models that can be told so.
        last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        logits = model(prompt, attention_mask=torch.ones_like(prompt), use_cache=False, **last_only).logits[:, -1]
        nodes = torch.tensor([request.node], device=logits.device)
        at_root = request.node == TokenTrie.ROOT
        ids = allowed_ids(request.constraint, nodes, self.vocab_size, at_root=at_root)
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, prompt.to(logits.device), True)
        penalty = torch.full((1,), request.repetition_penalty, device=logits.device)
        best = best_tokens(logits, ids, request.num_best, seen, penalty)
        return scoring_results(best.cpu().numpy(), [request.num_best])[0]


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    future: Future[Any]


def _serve(jobs: queue.SimpleQueue[_Job | None], closed: threading.Event) -> None:
    """Run as an engine's thread, which knows the engine by its jobs alone, so that an engine can be dropped."""
    while (job := jobs.get()) is not None:
        if closed.is_set():
            job.future.cancel()
        if job.future.set_running_or_notify_cancel():
            try:
                job.future.set_result(job.work())
            except Exception as error:  # one request's failure belongs to its future and to no other
                job.future.set_exception(error)
        del job


@contextlib.contextmanager
def _neutral_generation_config(model: PreTrainedModel) -> Iterator[None]:
    """Run without the checkpoint's generation settings: `generate` fills in from them whatever we leave unset."""
    saved, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = saved


class _ChooseToken(LogitsProcessor):
    """Applies penalty and constraint, draws the token, and leaves it as the only one: greedy search then takes it.

    `drawn` is called for each token. It is not a processor beside this one: transformers reads a processor's signature
    for every token, which for a bound method costs more than drawing.
    """

    def __init__(self, request: GenerationRequest, vocab_size: int, drawn: Callable[[], None]) -> None:
        self._prompt_length = len(request.prompt_ids)
        self._sampling = request.sampling
        self._groups = [(request.constraint, 1)]
        self._vocab_size = vocab_size
        self._drawn = drawn
        self._nodes: torch.Tensor | None = None  # (1,) int64, the place in a trie
        self._rows: SamplingRows | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` (1, vocab_size) with -inf for every id but the one chosen."""
        self._drawn()
        device = scores.device
        generated = input_ids.shape[1] - self._prompt_length
        if self._nodes is None or self._rows is None:
            self._nodes = torch.full((1,), TokenTrie.ROOT, device=device)
            self._rows = SamplingRows.of([self._sampling], device)
        else:
            self._nodes = step_nodes(self._groups, self._nodes, input_ids[:, -1].to(device), self._vocab_size)
        allowed = allowed_tokens(self._groups, self._nodes, self._vocab_size)
        if self._sampling.repetition_penalty != 1:
            seen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, input_ids.to(device), True)
            scores = penalize(scores, seen, scores.new_tensor([self._sampling.repetition_penalty]))
        token = sample(scores, self._rows, torch.full((1,), generated, device=device), allowed)
        return torch.full_like(scores, -torch.inf).index_fill_(1, token, 0.0)


class _EndsWithToken(StoppingCriteria):
    """Stops after a stop id, a trie's end token or a trie's leaf; decided on the device.

    `generate` may notice one step late; `result_of` cuts off what comes after the end.
    """

    def __init__(self, request: GenerationRequest, vocab_size: int) -> None:
        self._constraint = request.constraint
        self._stop_ids = request.stop_ids
        self._vocab_size = vocab_size
        self._nodes: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        """Return (1,) bool for `input_ids` (1, length)."""
        token, device = input_ids[:, -1], input_ids.device
        is_end = self._stop_ids.mask(self._vocab_size, device)[token]
        if self._constraint is None or isinstance(self._constraint, TokenSet):
            return is_end
        if self._nodes is None:
            self._nodes = torch.full((1,), TokenTrie.ROOT, device=device)
        trie = device_trie(self._constraint, self._vocab_size, device)
        is_end |= (token == trie.end_id) & trie.may_end[self._nodes]
        self._nodes = trie.step(self._nodes, token)
        return is_end | trie.is_leaf(self._nodes)
