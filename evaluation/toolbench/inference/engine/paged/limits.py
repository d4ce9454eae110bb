"""Says how large a step of the paged engine may become, and how that follows the load. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import lru_cache

from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.engine.paged.step_sizes import mixed_decode_rows, mixed_tokens

SMALLEST_CHUNK = 32  # tokens: a step's fixed costs are shared by at least this many tokens of a long prompt

# Sequences that run at once at most -> prompt tokens that a step reads beside them. An agent's query has 4.2 prompt
# tokens for each that it draws: with less than that for each sequence, more and more of them wait to be read. More
# makes a step longer for all who decode: with 64 sequences an H200 gave 504 queries/min with 448 tokens and 472 with
# 768, with 128 sequences 522 and 558.
_PROMPT_TOKENS = ((64, 448), (96, 544), (128, 768), (192, 1088), (256, 1280))

# One of several batches reads no more than its rows need in the long run: where steps that read much take turns with
# steps that read nothing, stages wait for each other. Of 36 steps of a generation about 34 draw, which makes 4 tokens
# for each row. Steps of no more than 256 tokens in all are short enough as they are.
_NEEDED_PER_ROW = 4
_SMALL_STEP = 256
# Two H200s with 128 conversations give 911 queries/min in steps of 512 tokens. While streams had to share hardware
# queues it was 714, and 637 in steps of 320, which have not been measured since. By `benchmarks.pipeline_steps` the
# larger ones cost no more than 3%.
_SLOW_STEP, _INSTEAD = 320, 512


@dataclass(frozen=True, slots=True)
class Limits:
    """Says how large a step may become."""

    max_running: int = MAX_RUNNING  # sequences with a part in the steps
    max_prefill_tokens: int = 768  # prompt tokens a step, all sequences together
    max_prefill_rows: int = 16  # sequences that read more than one token in a step
    follows_load: bool = False  # whether fewer prompt tokens are read while fewer sequences run
    counts_decodes: bool = False  # whether `max_prefill_tokens` are those of a whole step, rows that decode included

    @classmethod
    def of(
        cls, num_batches: int, *, max_running: int, max_prefill_tokens: int | None, step_tokens: int | None = None
    ) -> Limits:
        """Return the limits to begin with. Where nothing is said of prompt tokens, their number follows the load.

        `num_batches` are on their way at once, and share it: steps of equal size keep several GPUs equally busy.
        `step_tokens` are those of a whole step, of which prompts take what is left beside rows that decode. Large
        steps are for many short prompts: they may have as many of them as fill one.
        """
        if step_tokens is not None:
            return cls(max_running, step_tokens, max(16, step_tokens // SMALLEST_CHUNK), counts_decodes=True)
        if max_prefill_tokens is not None:
            return cls(max_running, max_prefill_tokens)
        return cls(max_running, prompt_tokens_for(max_running, num_batches), follows_load=True)

    def prompt_tokens(self, num_running: int, num_batches: int, num_decoding: int) -> int:
        """Return how many prompt tokens a step reads in which `num_decoding` rows decode, while `num_running` sequences
        run, over all batches.
        """
        if self.counts_decodes:
            rows = mixed_decode_rows(num_decoding) or num_decoding
            return max(min(SMALLEST_CHUNK, self.max_prefill_tokens), self.max_prefill_tokens - rows)
        if not self.follows_load:
            return self.max_prefill_tokens
        return min(self.max_prefill_tokens, prompt_tokens_for(num_running, num_batches))

    def halved(self) -> Limits | None:
        """Return half as much, for a device that ran out of memory; None when there is nothing left to halve."""
        smaller = replace(
            self,
            max_running=max(1, self.max_running // 2),
            max_prefill_tokens=min(self.max_prefill_tokens, max(SMALLEST_CHUNK, self.max_prefill_tokens // 2)),
        )
        return None if smaller == self else smaller

    def doubled(self, most: Limits) -> Limits:
        """Return twice as much, and no more than `most`."""
        return replace(
            self,
            max_running=min(most.max_running, 2 * self.max_running),
            max_prefill_tokens=min(most.max_prefill_tokens, 2 * self.max_prefill_tokens),
        )


@lru_cache(maxsize=4096)  # a planner asks again and again
def prompt_tokens_for(num_running: int, num_batches: int = 1) -> int:
    """Return how many prompt tokens a step of one batch reads while `num_running` sequences run in all batches.

    Never less for more sequences, and mostly what fills one of the sizes that steps are padded to, so that no row of
    it is wasted.

    >>> [prompt_tokens_for(running) for running in (1, 64, 65, 128, 192, 256)]
    [448, 448, 544, 768, 1088, 1280]
    >>> [prompt_tokens_for(64, num_batches) for num_batches in (2, 3, 4)]
    [208, 160, 112]
    >>> [prompt_tokens_for(128, num_batches) for num_batches in (2, 3, 4)]
    [416, 208, 208]
    """
    index = min(bisect_left(_PROMPT_TOKENS, (num_running, 0)), len(_PROMPT_TOKENS) - 1)
    return min(_share(running, tokens, num_batches) for running, tokens in _PROMPT_TOKENS[index:])


def _share(num_running: int, prompt_tokens: int, num_batches: int) -> int:
    """Return how many prompt tokens fill a step of one batch, which has its share of both."""
    all_tokens = -(-(num_running + prompt_tokens) // num_batches)
    rows = -(-num_running // num_batches)
    padded_rows = mixed_decode_rows(rows) or rows
    if num_batches > 1:
        all_tokens = min(all_tokens, max(_SMALL_STEP, padded_rows + _NEEDED_PER_ROW * rows))
        if mixed_tokens(all_tokens) == _SLOW_STEP:
            all_tokens = _INSTEAD
    return max(SMALLEST_CHUNK, (mixed_tokens(all_tokens) or all_tokens) - padded_rows)
