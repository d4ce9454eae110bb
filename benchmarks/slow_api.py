"""Serves the demo's APIs, but slowly and unreliably, as real ones are: for the benchmarks of whole runs.

    python -m benchmarks.slow_api --ready_file FILE [--latency_s 0.2] [--failure_rate 0.01]

Every request waits `latency_s` and then is answered from the demo's recorded responses, or, as many of them as
`failure_rate` says, with status 500. It ends with the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
from pathlib import Path
from typing import Any

import uvicorn

from evaluation.toolbench.inference.process_watch import when_process_ends
from evaluation.toolbench.virtual_api.app import VirtualApi, make_app
from evaluation.toolbench.virtual_api.cache import ResponseCache

DEMO_CACHE = Path(__file__).resolve().parents[1] / "evaluation/toolbench/demo/assets/tool_response_cache"


class Disturbed:
    """Wraps the ASGI application `app` so that callers wait, and some of them fail."""

    def __init__(self, app: Any, latency_s: float, failure_rate: float) -> None:
        self._app = app
        self._latency_s = latency_s
        self._failure_rate = failure_rate
        self._rng = random.Random(0)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(self._latency_s)
        if self._rng.random() >= self._failure_rate:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ready_file", type=Path, required=True, help="gets the server's URL")
    parser.add_argument("--latency_s", type=float, default=0.2, help="seconds of every call (default: %(default)s)")
    parser.add_argument(
        "--failure_rate", type=float, default=0.0, help="share of calls that fail (default: %(default)s)"
    )
    options = parser.parse_args()
    when_process_ends(os.getppid(), lambda: os._exit(0))
    app = make_app(VirtualApi(ResponseCache(DEMO_CACHE, fuzzy=True, max_memory_bytes=2**26)), max_body_bytes=2**20)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    options.ready_file.write_text(f"http://127.0.0.1:{listener.getsockname()[1]}/virtual")
    disturbed = Disturbed(app, options.latency_s, options.failure_rate)
    uvicorn.Server(uvicorn.Config(disturbed, log_level="error", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
