"""Says what a query is expected to need before any has ended: tokens in the KV cache, drawn and read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expectation:
    """Says how many tokens a query has, by the workload of `benchmarks.conversations`, with lengths of real queries.

    A conversation grows from `start_tokens` to `end_tokens`; at any moment those that run have `mean_tokens`.
    """

    start_tokens: int = 550
    mean_tokens: int = 1900
    end_tokens: int = 3400
    drawn_tokens: int = 510
    read_tokens: int = 2160  # of its prompts: what neither the shared system prompt nor its own earlier prompts hold

    def mean_of(self, max_tokens: int) -> int:
        """Return how many tokens a running conversation holds on average when none may exceed `max_tokens`.

        >>> Expectation().mean_of(8192), Expectation().mean_of(1000)
        (1900, 500)
        """
        return max(1, min(self.mean_tokens, max_tokens // 2))

    @property
    def read_per_drawn(self) -> float:
        """Return how many prompt tokens the model reads for each token that it draws."""
        return self.read_tokens / self.drawn_tokens

    def queries_per_min(self, tokens_per_s: float) -> float:
        return 60 * tokens_per_s / self.drawn_tokens
