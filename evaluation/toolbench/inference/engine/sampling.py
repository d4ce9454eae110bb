"""Draws the next token of each row of logits, the same in every engine.

Order of the parts, which is transformers': the repetition penalty, the constraint's mask, temperature, top_k,
top_p; then the Gumbel-max draw. The noise of a draw is a hash of (seed, position in the generation, token id),
computed with integer arithmetic on the device: it needs no generator state, no host round trip, and cannot
depend on which rows share the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evaluation.toolbench.inference.engine.device import to_device
from evaluation.toolbench.inference.engine.request import Sampling

_BELOW_ONE = 1.0 - 2.0**-24  # the largest float32 under 1: keeps -log1p(-u) finite


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """Holds the `Sampling` of a batch's rows, as tensors on the device of its logits.

    Only the rows in `drawn` are drawn; the others are greedy. The flags are known on the host, so a
    batch of greedy rows launches one argmax and nothing else.
    """

    drawn: torch.Tensor | None  # (num_drawn,) int64 row numbers; None when every row is greedy
    temperature: torch.Tensor  # (num_drawn,) float32, above 0
    top_k: torch.Tensor  # (num_drawn,) int64, 0 = off
    top_p: torch.Tensor  # (num_drawn,) float32, 1 = off
    seed: torch.Tensor  # (num_drawn,) int64
    is_filtered: bool  # some row uses top_k or top_p

    @classmethod
    def of(cls, samplings: Sequence[Sampling], device: torch.device) -> SamplingRows:
        """Return rows for `samplings`, one each, in order. Copies to the device do not wait for it."""
        rows = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
        chosen = [samplings[row] for row in rows]
        return cls(
            drawn=to_device(rows, torch.int64, device) if rows else None,
            temperature=to_device([s.temperature for s in chosen], torch.float32, device),
            top_k=to_device([s.top_k for s in chosen], torch.int64, device),
            top_p=to_device([s.top_p for s in chosen], torch.float32, device),
            seed=to_device([signed_64(s.seed) for s in chosen], torch.int64, device),
            is_filtered=any(s.top_k > 0 or s.top_p < 1 for s in chosen),
        )


def penalize(logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Return (num_rows, vocab_size) float32: `logits` in which every id that was seen is less likely, however often
    it was.

    `seen` (num_rows, vocab_size) bool has the ids of each row's prompt and generation, `penalty` (num_rows,) float32
    the `Sampling.repetition_penalty`, by which positive logits are divided and negative ones multiplied.
    """
    logits, factor = logits.float(), penalty[:, None]
    return torch.where(seen, torch.where(logits < 0, logits * factor, logits / factor), logits)


def sample(
    logits: torch.Tensor,
    rows: SamplingRows,
    positions: torch.Tensor,
    allowed: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return (num_rows,) int64 token ids, one for each row.

    `logits` (num_rows, vocab_size) is read in float32; `positions` (num_rows,) int64 counts the tokens
    generated before this one; `allowed` (num_rows, vocab_size) bool masks the ids that may be produced
    (None: all), and has at least one in each row. Greedy rows take the lowest id among equals.
    """
    logits = logits.float()
    if allowed is not None:
        # The clamp keeps an allowed id above the mask even where the model itself answers -inf.
        logits = logits.clamp(min=torch.finfo(torch.float32).min).masked_fill(~allowed, -torch.inf)
    tokens = logits.argmax(dim=-1)
    if rows.drawn is None:
        return tokens
    everything = len(rows.drawn) == len(logits)
    scores = logits if everything else logits[rows.drawn]
    # Subtracting the maximum first keeps at least one allowed score finite however small the temperature.
    scores = (scores - scores.amax(dim=-1, keepdim=True)) / rows.temperature[:, None]
    if rows.is_filtered:
        scores = _keep_top(scores, rows.top_k, rows.top_p)
    drawn_positions = positions if everything else positions[rows.drawn]
    scores = scores + gumbel_noise(rows.seed, drawn_positions, scores.shape[-1])
    if allowed is not None:
        # Again, because a model that answers NaN must not choose an id that is not allowed either.
        scores = scores.masked_fill(~(allowed if everything else allowed[rows.drawn]), -torch.inf)
    drawn_tokens = scores.argmax(dim=-1)
    return drawn_tokens if everything else tokens.index_copy(0, rows.drawn, drawn_tokens)


def gumbel_noise(seeds: torch.Tensor, positions: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return (num_rows, vocab_size) float32 Gumbel(0, 1) noise; `seeds` and `positions` are (num_rows,) int64.

    -log(-log1p(-u)) with u in (0, 1): a small u makes a large value, so the tail that decides draws
    over a large vocabulary is as fine as float32 is near 0.
    """
    key = _mix_64(_mix_64(seeds) + positions)
    low, high = key.to(torch.int32), (key >> 32).to(torch.int32)
    bits = _token_numbers(vocab_size, seeds.device) + low[:, None]
    bits = _mix_32_(_mix_32_(bits).bitwise_xor_(high[:, None]))
    uniform = bits.bitwise_and_(0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31).clamp_(max=_BELOW_ONE)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _keep_top(scores: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Return `scores` with -inf outside the top_k and, of what is left, outside the top_p. Ties at the edge stay.

    (num_rows, vocab_size) float32 in and out; at least the largest score of a row stays.
    """
    vocab_size = scores.shape[-1]
    descending = scores.sort(dim=-1, descending=True).values
    last = torch.where(top_k > 0, top_k, vocab_size).clamp(max=vocab_size) - 1
    descending = descending.masked_fill(descending < descending.gather(-1, last[:, None]), -torch.inf)
    probabilities = descending.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    # Rounding may bring the sum to 1 before the last id; top_p = 1 means off all the same.
    stays = (before < top_p[:, None]) | (top_p[:, None] >= 1)
    threshold = descending.masked_fill(~stays | descending.isneginf(), torch.inf).amin(dim=-1, keepdim=True)
    return scores.masked_fill(scores < threshold, -torch.inf)


def _mix_64(x: torch.Tensor) -> torch.Tensor:
    """Apply the finalizer of splitmix64 to int64 tensors; products wrap around, shifts are logical."""
    x = x + signed_64(0x9E3779B97F4A7C15)
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * signed_64(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * signed_64(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _mix_32_(x: torch.Tensor) -> torch.Tensor:
    """Apply the finalizer of MurmurHash3 to an int32 tensor, in place: 32 bits halve the traffic of a
    vocabulary.
    """
    x ^= (x >> 16) & 0xFFFF
    x *= _signed_32(0x85EBCA6B)
    x ^= (x >> 13) & 0x7FFFF
    x *= _signed_32(0xC2B2AE35)
    x ^= (x >> 16) & 0xFFFF
    return x


@functools.lru_cache(maxsize=16)
def _token_numbers(vocab_size: int, device: torch.device) -> torch.Tensor:
    """Return (vocab_size,) int32: token ids spread over 32 bits by an odd factor, so that neighbours differ in every
    bit.
    """
    return torch.arange(vocab_size, dtype=torch.int32, device=device) * _signed_32(0x9E3779B1)


def signed_64(value: int) -> int:
    """Return the two's complement of the low 64 bits of `value`."""
    return (value + 2**63) % 2**64 - 2**63


def _signed_32(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31
