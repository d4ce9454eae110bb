"""Serves requests by continuous batching over a transformers model, with a paged KV cache: see `serving_loop`."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.engine.checks import check_request, check_scoring, context_of, vocabulary_of
from evaluation.toolbench.inference.engine.kv_format import check_kv_cache
from evaluation.toolbench.inference.engine.paged.attach import attach, detach
from evaluation.toolbench.inference.engine.paged.execution.runner import ModelRunner
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE, KvCache, count_pages
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.model_setup import bytes_of_a_step, prepared_stages
from evaluation.toolbench.inference.engine.paged.pages import PagePool, extend_names
from evaluation.toolbench.inference.engine.paged.prefix import common_length
from evaluation.toolbench.inference.engine.paged.scheduler import Counts, Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.paged.serving_loop import ServingLoop, Ticket
from evaluation.toolbench.inference.engine.request import (
    Engine,
    GenerationRequest,
    GenerationResult,
    KvUse,
    ScoringRequest,
    ScoringResult,
)
from evaluation.toolbench.inference.errors import EngineError


@dataclass(frozen=True, slots=True)
class PageUse:
    """Counts pages at one moment: in all, free ones, and conversations that keep some while they wait."""

    num_pages: int
    num_free: int
    num_idle: int


class PagedEngine(Engine):
    """Serves many requests at once; the oldest first where memory or the step's size sets a limit.

    num_pages          pages of the KV cache; None: what fits beside the weights
    max_kv_bytes       limits those to this many bytes on each device, for a GPU that is not ours alone
    max_gpu_bytes      limits weights and pages together, by CUDA index: what --max_gpu_memory allows
    page_size          tokens a page; a power of two on a GPU
    kv_cache           "fp8" stores keys and values in 8 bits, in half the room: see `kernels.float8`. Answers may
                       differ. "auto": in the model's dtype
    max_length         tokens of the longest sequence; None: what the model's context has. Where all are short, no row
                       of a step has a table for a long one, and attention does not divide them
    max_running        sequences in a step at most
    max_prefill_tokens prompt tokens in a step at most: longer prompts are read in pieces. None: follows the load
    step_tokens        tokens in a step at most, those that decode included: prompts fill each step to that size
    use_graphs         CUDA graphs, one for each GPU's part of the layers; not where weights are offloaded
    capture_at_start   capture them all before the first step (seconds), not each at its first use
    compile_layers     torch.compile of the decoder's layers (half a minute for a large model): see `compilation`.
                       None: of large models on GPUs
    before_compiling   called once when that begins
    join_linears       layers that are given the same tensor run as one product: see `joined_linear`.
                       None: as for compile_layers
    few_rows           kernels of our own multiply in steps of few rows, and by int8 in all: see `products`.
                       None: as for compile_layers
    thin_last_layer    the last layer computes only the tokens that are drawn from, in steps that read prompts: see
                       `last_layer`. Other steps may round a token differently. None: as for compile_layers
    overlap            launch a step before reading the last one's tokens; None: on a GPU

    While the engine lives it owns the model's attention; `close` gives that back. A future can be
    cancelled until its result is there, also while its generation runs: a caller's time limit is
    `result(timeout)` and `cancel()`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        num_pages: int | None = None,
        max_kv_bytes: int | None = None,
        max_gpu_bytes: Mapping[int, int] | None = None,
        page_size: int = PAGE_SIZE,
        kv_cache: str = "auto",
        max_length: int | None = None,
        max_running: int = MAX_RUNNING,
        max_prefill_tokens: int | None = None,
        step_tokens: int | None = None,
        use_graphs: bool = True,
        capture_at_start: bool = False,
        compile_layers: bool | None = None,
        before_compiling: Callable[[], None] | None = None,
        join_linears: bool | None = None,
        few_rows: bool | None = None,
        thin_last_layer: bool | None = None,
        overlap: bool | None = None,
    ) -> None:
        check_kv_cache(kv_cache)
        self.vocab_size = vocabulary_of(model)
        context = context_of(model)
        longest = context if max_length is None else min(context, max_length)
        attention_before, layers = attach(model)
        layers = [dataclasses.replace(layer, is_float8=kv_cache == "fp8") for layer in layers]
        try:
            stages = prepared_stages(model, compile_layers, before_compiling, join_linears, few_rows, thin_last_layer)
            limits = Limits.of(
                len(stages),
                max_running=max_running,
                max_prefill_tokens=max_prefill_tokens,
                step_tokens=step_tokens,
            )
            if num_pages is None:
                num_pages = count_pages(
                    layers,
                    page_size,
                    working_bytes=bytes_of_a_step(model, self.vocab_size, stages, limits),
                    max_pages=max_running * -(-context // page_size),
                    max_bytes=max_kv_bytes,
                    max_gpu_bytes=max_gpu_bytes or {},
                )
            cache = KvCache(layers, num_pages, page_size)
        except BaseException:
            detach(model, attention_before)
            raise
        self.max_length = min(longest, num_pages * page_size)
        self._scheduler = Scheduler(PagePool(num_pages, page_size), limits, num_batches=len(stages))
        self._runner: ModelRunner | None = ModelRunner(
            model,
            stages,
            cache,
            vocab_size=self.vocab_size,
            num_batches=self._scheduler.num_batches,
            slots_per_batch=self._scheduler.slots_per_batch,
            max_prefill_rows=limits.max_prefill_rows,
            table_width=min(-(-longest // page_size), num_pages),
            use_graphs=use_graphs,
        )
        self._model: PreTrainedModel | None = model
        self._attention_before = attention_before
        gpus = [stage.device for stage in stages if stage.device.type == "cuda"]
        self._loop = ServingLoop(
            self._scheduler,
            self._runner,
            gpus,
            overlap=bool(gpus) if overlap is None else overlap,
            capture_at_start=capture_at_start,
        )
        # Whoever drops an engine, in a notebook say, gets its memory back.
        weakref.finalize(self, self._loop.stop).atexit = False

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        try:
            max_new_tokens = check_request(request, vocab_size=self.vocab_size, max_length=self.max_length)
        except EngineError as error:
            return _failed(error)
        sequence = Sequence(0, request, max_new_tokens)
        extend_names(sequence.names, request.prompt_ids, self._scheduler.pool.page_size)
        return self._loop.queue_up(Ticket([sequence]))

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        return self._queue_up_scoring([request], are_many=False)

    def score_all(self, requests: Items[ScoringRequest]) -> Future[list[ScoringResult]]:
        return self._queue_up_scoring(requests, are_many=True)

    def _queue_up_scoring(self, requests: Items[ScoringRequest], *, are_many: bool) -> Future[Any]:
        try:
            sequences = self._scoring_sequences(requests)
        except EngineError as error:
            return _failed(error)
        return self._loop.queue_up(Ticket(sequences, are_many))

    def _scoring_sequences(self, requests: Items[ScoringRequest]) -> list[Sequence]:
        """Make the sequences. What a prompt shares with the first one is looked at there alone. EngineError."""
        page_size = self._scheduler.pool.page_size
        sequences: list[Sequence] = []
        for request in requests:
            prompt_ids, num_shared = request.prompt_ids, 0
            names: list[bytes] = []
            if sequences:
                first = sequences[0]
                num_shared = common_length(first.token_ids, prompt_ids, len(prompt_ids) - 1)
                names = first.names[: num_shared // page_size]
            generation = check_scoring(
                request, vocab_size=self.vocab_size, max_length=self.max_length, num_checked=num_shared
            )
            sequence = Sequence(0, generation, generation.max_new_tokens, request)
            sequence.names = names
            extend_names(names, prompt_ids, page_size)
            sequences.append(sequence)
        return sequences

    def generate(self, request: GenerationRequest) -> GenerationResult:
        return self.submit(request).result()

    def end_conversation(self, conversation_id: str) -> None:
        self._loop.end_conversation(conversation_id)

    def close(self) -> None:
        """Cancel what waits, finish what runs, release the model. Later submits raise EngineError."""
        self._loop.close()
        self._runner = None
        if self._model is not None:
            detach(self._model, self._attention_before)
            self._model = None

    def num_steps(self) -> int:
        """Return the steps launched so far."""
        return self._scheduler.counts.steps

    def num_tokens(self) -> int:
        """Return the tokens generated so far, those of generations that still run included."""
        return self._scheduler.counts.generated_tokens

    def num_prompt_tokens(self) -> int:
        """Return the prompt tokens read so far, without those that were in the pages already."""
        return self._scheduler.counts.prefill_tokens

    def kv_tokens(self) -> int:
        """Return how many tokens the page pool holds."""
        return self._scheduler.pool.num_pages * self._scheduler.pool.page_size

    def kv_use(self) -> KvUse:
        """Return what the page pool is used for at this moment, as nearly as another thread can tell."""
        pool, counts = self._scheduler.pool, self._scheduler.counts
        return KvUse((pool.num_pages - pool.num_free) * pool.page_size, counts.repeated_preemptions)

    def counts(self) -> Counts:
        """Return what has been done so far, at the time of the call."""
        return dataclasses.replace(self._scheduler.counts)

    def page_use(self) -> PageUse:
        """Return what the pages are used for; exact when nothing runs."""
        pool = self._scheduler.pool
        return PageUse(pool.num_pages, pool.num_free, len(self._scheduler.store))


def _failed(error: EngineError) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
