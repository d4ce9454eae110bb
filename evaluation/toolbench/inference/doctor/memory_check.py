"""Checks the memory plan: the engine takes its KV cache, and the longest conversation runs beside the others."""

from __future__ import annotations

import contextlib
import random

import torch
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.attach import CannotBePagedError
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE
from evaluation.toolbench.inference.engine.request import Engine, GenerationRequest
from evaluation.toolbench.inference.errors import ToolGenError, first_line
from evaluation.toolbench.inference.finding import Finding
from evaluation.toolbench.inference.multi_gpu.replica_plan import PlannedReplica
from evaluation.toolbench.inference.multi_gpu.units import gib

_LAST_TOKENS = 8  # that the longest conversation generates, beside all others
_SHORT_PROMPT = 16  # tokens
_MOST_NEW_TOKENS = 64  # of the others: more than the steps in which the longest prompt is read
_ADVICE = "a smaller --max_gpu_memory, such as 75%; and please report it with --json"


def longest_conversation(name: str, model: PreTrainedModel, replica: PlannedReplica) -> Finding:
    """Run the engine of a run: check what the plan promised, and tell what the cards show at the peak."""
    torch.cuda.empty_cache()  # what earlier checks used and freed is not part of this one
    for index in replica.gpus:
        torch.cuda.reset_peak_memory_stats(index)
    failures = sum(_num_ooms(index) for index in replica.gpus)
    try:
        with contextlib.closing(planned_engine(model, replica)) as engine:
            kv_tokens = engine.page_use().num_pages * PAGE_SIZE
            fill(engine, replica.conversations, min(replica.max_tokens, engine.max_length))
    except CannotBePagedError as error:
        return Finding(name, "skip", str(error))
    except (ToolGenError, torch.OutOfMemoryError) as error:
        return Finding(name, "fail", first_line(error), _ADVICE)
    peak = {index: torch.cuda.max_memory_reserved(index) for index in replica.gpus}
    budgets = {shard.index: shard.budget.num_bytes for shard in replica.shards}
    said = ", ".join(f"cuda:{index}: {gib(peak[index])} of a budget of {gib(budgets[index])}" for index in peak)
    measured = (
        f"{replica.max_tokens:,} tokens, {replica.conversations - 1} other conversations, "
        f"room for {kv_tokens:,} of {replica.kv_tokens:,} planned tokens: {said}"
    )
    facts = {
        "peak_bytes": peak,
        "budget_bytes": budgets,
        "card_used_bytes": {index: _used_bytes(index) for index in replica.gpus},
        "kv_tokens": kv_tokens,
        "planned_kv_tokens": replica.kv_tokens,
        "conversations": replica.conversations,
        "out_of_memory": sum(_num_ooms(index) for index in replica.gpus) - failures,
    }
    if facts["out_of_memory"]:
        return Finding(name, "fail", f"a step ran out of memory; {measured}", _ADVICE, facts=facts)
    if kv_tokens < replica.max_tokens or any(peak[index] > budgets[index] for index in peak):
        return Finding(name, "fail", measured, _ADVICE, facts=facts)
    return Finding(name, "ok", measured, facts=facts)


def planned_engine(model: PreTrainedModel, replica: PlannedReplica) -> PagedEngine:
    """Make the engine of a run by this plan: its KV cache, and as many sequences in a step as memory is kept for."""
    return PagedEngine(
        model, max_kv_bytes=replica.max_kv_bytes, max_running=replica.max_running, kv_cache=replica.kv_cache
    )


def fill(engine: Engine, conversations: int, length: int) -> None:
    """Runs `conversations` at once, one of them until it is `length` tokens long. Raises the first one's error."""
    rng = random.Random(0)
    last = min(_LAST_TOKENS, max(1, length // 2))
    lengths = [(length - last, last)]
    short = min(_SHORT_PROMPT, max(1, length // 2))
    lengths += [(short, min(_MOST_NEW_TOKENS, length - short))] * (conversations - 1)
    futures = [
        engine.submit(
            GenerationRequest([rng.randrange(engine.vocab_size) for _ in range(prompt)], new_tokens, TokenSet([]))
        )
        for prompt, new_tokens in lengths
    ]
    for future in futures:
        future.result()


def _num_ooms(index: int) -> int:
    return int(torch.cuda.memory_stats(index).get("num_ooms", 0))


def _used_bytes(index: int) -> int:
    """Return the bytes in use on the card by all processes, with contexts and libraries, which torch does not count."""
    free_bytes, total_bytes = torch.cuda.mem_get_info(index)
    return total_bytes - free_bytes
