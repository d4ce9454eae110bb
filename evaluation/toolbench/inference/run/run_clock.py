"""Measures the times of a run: what loading took, and how long it has served since."""

from __future__ import annotations

import time


class RunClock:
    """Starts when it is made; serving begins with `serve`."""

    def __init__(self, loaded_before_s: float = 0.0) -> None:
        """Start the clock; `loaded_before_s` is what loading a model took before."""
        self._loaded_before_s = loaded_before_s
        self._started = time.monotonic()
        self._serving_since: float | None = None

    def serve(self) -> None:
        """Note that the first replica is ready. Later ones change nothing."""
        if self._serving_since is None:
            self._serving_since = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def load_s(self) -> float:
        """Return the seconds until the first replica was ready, or until now."""
        ready = time.monotonic() if self._serving_since is None else self._serving_since
        return self._loaded_before_s + ready - self._started

    @property
    def serving_s(self) -> float | None:
        """Return seconds since then; None before."""
        return None if self._serving_since is None else time.monotonic() - self._serving_since
