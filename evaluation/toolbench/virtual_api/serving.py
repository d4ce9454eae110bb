"""Runs the server as a process: its port, its ready file, its logs, its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import uvicorn

from evaluation.toolbench.chat_client.settings import ChatSettings, Server, base_url
from evaluation.toolbench.checkout import repository_root
from evaluation.toolbench.http_client.urls import without_secrets, would_leak_key
from evaluation.toolbench.inference.command_line import open_many_files, say
from evaluation.toolbench.inference.errors import ConfigError, DataError, OutputError
from evaluation.toolbench.inference.process_watch import when_process_ends
from evaluation.toolbench.virtual_api.app import VirtualApi, make_app, request_log
from evaluation.toolbench.virtual_api.cache import ResponseCache
from evaluation.toolbench.virtual_api.config import LISTENING, ServerConfig
from evaluation.toolbench.virtual_api.forwarder import Forwarder
from evaluation.toolbench.virtual_api.simulator.simulator import Simulator
from evaluation.toolbench.virtual_api.simulator.system_prompt import load_system_prompt
from evaluation.toolbench.virtual_api.simulator.tool_documents import ToolDocuments

_BACKLOG = 2048  # connections that may wait while the event loop is busy
_KEEP_ALIVE_S = 75  # longer than our client keeps an idle connection, so that it is never closed under it
_SHUTDOWN_S = 1  # what requests in flight still get after a signal to stop
_SIMULATOR_PATIENCE_S = 30.0  # then calls are misses until it answers again
_LOG_FILE_BYTES = 64 * 2**20  # then one older file is kept beside a new one


def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM, SIGINT or the end of `config.exit_with_parent`. ToolGenError if it cannot start."""
    open_many_files()
    cache = _open_cache(config)
    forwarder = Forwarder(config.forward_url, timeout_s=config.forward_timeout_s) if config.forward_url else None
    simulator = _simulator(config) if config.simulator_url else None
    app = make_app(VirtualApi(cache, forwarder, simulator), max_body_bytes=config.max_body_bytes)
    listener = _listen(config.host, config.port)
    url = _own_url(listener)

    with _ready_file(config.ready_file) as announce, _request_log_to(config.log_file):

        def on_listening() -> None:
            recorded = f"{cache.count_files():,} APIs recorded in {cache.root}"
            say(f"{LISTENING}{url}, {recorded}, {_policy(config, forwarder)}")
            announce(url)

        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            ),
            on_listening,
        )
        if config.exit_with_parent is not None:
            when_process_ends(config.exit_with_parent, server.stop)
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Extends uvicorn's server by a call when it listens and an end without noise."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    def stop(self) -> None:
        """End soon; may be called from any thread."""
        # Requests that are cut off from here on are cut off on purpose.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal, then return. (uvicorn's own raises it again, which would end us with an error.)"""

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        # A shell starts background jobs with SIGINT ignored: there, Ctrl-C is meant for the job in front,
        # which may still need us while it finishes.
        handled = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
        previous: dict[signal.Signals, Any] = {number: signal.signal(number, on_signal) for number in handled}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _open_cache(config: ServerConfig) -> ResponseCache:
    folder = config.cache_dir
    if config.forward_url:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot make the response cache {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise OutputError(f"The response cache {folder} is read-only, so forwarded answers could not be stored")
    elif not folder.is_dir():
        raise DataError(
            f"No response cache at {folder}. Pass a folder of <category>/<tool>/<api>.json with --cache_dir "
            "(API_CACHE_DIR of a run), or --forward_url to record one."
        )
    return ResponseCache(folder, fuzzy=config.fuzzy, max_memory_bytes=config.cache_memory_mib * 2**20)


def _simulator(config: ServerConfig) -> Simulator:
    assert config.simulator_url is not None
    assert config.tools_dir is not None  # of a config that has passed its checks
    folder = config.simulated_replies.resolve()
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise OutputError(f"Cannot write {folder}, where simulated replies are kept. Pass another --simulated_dir.")
    key = config.simulator_key
    server = Server(base_url(config.simulator_url, "SIMULATOR_URL"), key, "SIMULATOR_API_KEY")
    settings = ChatSettings(
        (server,),
        model=config.simulator_model,
        timeout_s=config.simulator_timeout_s,
        patience_s=_SIMULATOR_PATIENCE_S,
    )
    cache = config.cache_dir.resolve()
    prompt = load_system_prompt(config.simulator_prompts, [repository_root(), *cache.parents[:2]])
    replies = ResponseCache(folder, fuzzy=False, max_memory_bytes=config.cache_memory_mib * 2**20)
    return Simulator(settings, ToolDocuments(config.tools_dir), replies, prompt, config.simulator_seed)


def _listen(host: str, port: int) -> socket.socket:
    """Open a listening socket here, so that a taken port is one clear line."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        # asyncio switches Nagle's algorithm off only on sockets that say they are TCP, which those of
        # socket.create_server do not; with it every answer would wait 40 ms for an acknowledgement.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        return listener
    except OSError as error:
        if listener:
            listener.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Pass another --port (0 picks a free one) or --host."
        ) from error


def _own_url(listener: socket.socket) -> str:
    """Return where a client on this machine reaches us."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/virtual" if ":" in host else f"http://{host}:{port}/virtual"


def _policy(config: ServerConfig, forwarder: Forwarder | None) -> str:
    if config.simulator_url:
        url = without_secrets(base_url(config.simulator_url, "SIMULATOR_URL"))
        return f"anything else is simulated by {config.simulator_model or 'the model'} at {url}"
    if forwarder is None:
        return "anything else is answered with an error"
    unencrypted = " (unencrypted, keys included)" if would_leak_key(forwarder.url) else ""
    return f"anything else is asked of {without_secrets(forwarder.url)}{unencrypted}"


@contextmanager
def _ready_file(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes our URL to `path`, whole at once. The file exists only while we listen."""
    if path is None:
        yield lambda url: None
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()  # tells now, not when we listen, whether it can be written
        path.unlink(missing_ok=True)  # an earlier server's would be believed
    except OSError as error:
        raise OutputError(f"Cannot write the ready file {path}: {error.strerror}") from error

    def announce(url: str) -> None:
        part.write_text(url, encoding="utf-8")
        os.replace(part, path)

    try:
        yield announce
    finally:
        part.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


@contextmanager
def _request_log_to(path: Path | None) -> Iterator[None]:
    """Write `request_log` to `path` from a thread of its own, so that no request waits for the disk."""
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=_LOG_FILE_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write the log file {path}: {error.strerror}") from error
    records: SimpleQueue[Any] = SimpleQueue()
    queue_handler = QueueHandler(records)
    writer = QueueListener(records, handler)
    request_log.addHandler(queue_handler)
    request_log.setLevel(logging.INFO)
    writer.start()
    try:
        yield
    finally:
        request_log.removeHandler(queue_handler)
        writer.stop()
        handler.close()
