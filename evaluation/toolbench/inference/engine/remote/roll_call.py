"""Asks every generation server once whether it would serve a run, before there is one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.engine.remote.endpoint import Endpoint, ServedModel
from evaluation.toolbench.inference.engine.remote.handshake import Needs, shake_hands
from evaluation.toolbench.inference.engine.remote.settings import ServerSettings

_LONGEST_S = 60.0  # that one request of the handshake may take: nobody waits ten minutes for a check


@dataclass(frozen=True)
class RollCallReply:
    """Holds what became of one server's handshake: what it serves, or the failure."""

    url: str  # without secrets
    seconds: float
    served: ServedModel | None = None
    failure: Failure | None = None

    @property
    def would_end_run(self) -> bool:
        """Return whether a run with this server among others would not start: it is there and not what is needed."""
        return self.failure is not None and self.failure.kind in ("unfit", "refused")

    def __str__(self) -> str:
        if self.served is None:
            return f"{self.url} {self.failure.words if self.failure else 'did not answer'}"
        name, version, length = self.served.name, self.served.version, self.served.max_length
        return f"{self.url} serves {name}, up to {length:,} tokens (version {version}), in {self.seconds:.1f} s"


def call_roll(settings: ServerSettings, needs: Needs) -> Sequence[RollCallReply]:
    """Ask all servers of `settings` at once, with the handshake of a run: its models, its tokens, a few generations."""
    return asyncio.run(_ask_all(settings, needs))


async def _ask_all(settings: ServerSettings, needs: Needs) -> Sequence[RollCallReply]:
    hasty = replace(settings, timeout_s=min(settings.timeout_s, _LONGEST_S))
    return await asyncio.gather(*(_ask(Endpoint(url, hasty), needs, hasty) for url in hasty.urls))


async def _ask(endpoint: Endpoint, needs: Needs, settings: ServerSettings) -> RollCallReply:
    began = time.monotonic()
    try:
        served = await shake_hands(endpoint, needs, settings)
    except Failure as failure:
        return RollCallReply(endpoint.shown_url, time.monotonic() - began, failure=failure)
    finally:
        await endpoint.close()
    return RollCallReply(endpoint.shown_url, time.monotonic() - began, served)
