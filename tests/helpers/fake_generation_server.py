"""A generation server over HTTP with a made-up model, and knobs for what real servers do rarely."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

VOCAB_SIZE = 3000
# The ids that texts have here, and an end-of-turn token as separator.
SPELLINGS = {"<<A&&b>>": (2001,), "<<C&&d>>": (2002,), "<<E&&f>>": (2003,)}
SEPARATOR = ("<|eot_id|>", 2000)

Answer = tuple[int, str, bytes]  # status, content type, body


def json_answer(body: Any, status: int = 200) -> Answer:
    return status, "application/json", json.dumps(body).encode()


def error_answer(status: int, message: str) -> Answer:
    return json_answer({"error": {"message": message, "code": status}}, status)


HTML = (200, "text/html; charset=utf-8", b"<html><body>Sign in to the network</body></html>")


def made_up_token(ids: list[int], allowed: list[int] | None = None, vocab_size: int = VOCAB_SIZE) -> int:
    """The model: what follows `ids`, the same every time."""
    number = int.from_bytes(hashlib.blake2b(repr(ids).encode(), digest_size=8).digest(), "big")
    return allowed[number % len(allowed)] if allowed else number % vocab_size


def made_up_scores(ids: list[int], vocab_size: int = VOCAB_SIZE) -> list[float]:
    """The model's log-probabilities of every token after `ids`, the same every time."""
    logits = np.random.default_rng([len(ids), *ids]).normal(scale=3.0, size=vocab_size)
    return (logits - np.log(np.exp(logits).sum())).tolist()


@dataclass
class FakeServer:
    """`upcoming` answers the next completions in turn, before the model does; None stands for the model.
    `replies` are by path, instead of everything else."""

    name: str = "toolgen"
    root: str = "/checkpoints/toolgen"
    max_model_len: int = 256
    vocab_size: int = VOCAB_SIZE
    texts: dict[str, int] = field(default_factory=lambda: {t: i[0] for t, i in SPELLINGS.items()} | dict([SEPARATOR]))
    version: str = "0.32.0"
    api_key: str = ""
    ignored_fields: frozenset[str] = frozenset()
    grammars_work: bool = True
    list_limit: int | None = None  # ids in a list that stop the whole server
    token_shift: int = 0  # of the tokenizer's ids
    max_new_tokens: int | None = None  # a limit that comes from the checkpoint's settings
    models: Answer | None = None
    tokenize: Answer | None = None
    delay_s: float = 0.0
    trickle_s: float = 0.0  # between single bytes of a body
    upcoming: deque[Answer | None] = field(default_factory=deque)
    always: Callable[[Mapping[str, Any]], Answer | None] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    replies: dict[str, Answer] = field(default_factory=dict)
    url: str = ""

    def generations(self) -> list[dict[str, Any]]:
        """Requests that came after the handshakes, which have short prompts."""
        return [request for request in self.requests if len(request["prompt"]) > 3]

    def answer(self, method: str, path: str, key: str, body: Mapping[str, Any]) -> Answer:
        if self.api_key and path.startswith("/v1/") and key != f"Bearer {self.api_key}":
            return json_answer({"error": "Unauthorized"}, 401)
        if path in self.replies:
            return self.replies[path]
        if (method, path) == ("GET", "/v1/models"):
            entry = {"id": self.name, "root": self.root, "max_model_len": self.max_model_len}
            return self.models or json_answer({"object": "list", "data": [entry]})
        if (method, path) == ("GET", "/version"):
            return json_answer({"version": self.version})
        if (method, path) == ("POST", "/tokenize"):
            found = re.findall("|".join(map(re.escape, self.texts)), body["prompt"])
            return self.tokenize or json_answer({"tokens": [self.texts[text] + self.token_shift for text in found]})
        if (method, path) == ("POST", "/v1/completions"):
            return self._complete(body)
        return error_answer(404, "Not Found")

    def _complete(self, body: Mapping[str, Any]) -> Answer:
        self.requests.append(dict(body))
        body = {name: value for name, value in body.items() if name not in self.ignored_fields}
        time.sleep(self.delay_s)
        if self.always is not None and (answer := self.always(body)) is not None:
            return answer
        if len(body["prompt"]) > 3 and self.upcoming and (answer := self.upcoming.popleft()) is not None:
            return answer
        if body["model"] != self.name:
            return error_answer(404, f"The model `{body['model']}` does not exist.")
        if len(body["prompt"]) + 1 > self.max_model_len:
            return error_answer(400, f"This model's maximum context length is {self.max_model_len} tokens")
        allowed = body.get("allowed_token_ids")
        if allowed is not None and self.list_limit is not None and len(allowed) > self.list_limit:
            raise Stopped
        if "structured_outputs" in body and allowed is None:
            if not self.grammars_work:
                return error_answer(500, "Internal server error")
            allowed = ids_of_grammar(body["structured_outputs"]["grammar"])
        return json_answer(self.completion(body, allowed))

    def completion(self, body: Mapping[str, Any], allowed: list[int] | None = None) -> dict[str, Any]:
        """What the model says, as a server words it."""
        room = self.max_model_len - len(body["prompt"])
        count = min(body["max_tokens"], room, self.max_new_tokens or room)
        ids: list[int] = []
        reason = "length"
        while len(ids) < count and reason == "length":
            ids.append(made_up_token([*body["prompt"], *ids], allowed, self.vocab_size))
            if ids[-1] in body.get("stop_token_ids", ()):
                reason = "stop"
        returned: dict[str, Any] = {"token_ids": ids} if body.get("return_token_ids") else {}
        if body.get("logprobs"):
            scores = made_up_scores(body["prompt"], self.vocab_size)
            best = sorted(range(len(scores)), key=lambda i: -scores[i])[: body["logprobs"]]
            returned["logprobs"] = {"top_logprobs": [{f"token_id:{i}": scores[i] for i in best}]}
        if body.get("prompt_logprobs"):
            *before, last = body["prompt"]
            score = made_up_scores(before, self.vocab_size)[last]
            returned["prompt_logprobs"] = [None, {str(last): {"logprob": score, "rank": 1}}]
        return {"choices": [{"index": 0, "text": "", "finish_reason": reason, **returned}]}


def knobs_for(checkpoint: Path, actions: Sequence[str]) -> dict[str, Any]:
    """Those of a FakeServer that passes for one of `checkpoint`, whose tokenizer has `actions` as tokens."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = {text: tokenizer.convert_tokens_to_ids(text) for text in (*actions, SEPARATOR[0])}
    return {"name": checkpoint.name, "max_model_len": 4096, "vocab_size": len(tokenizer), "texts": texts}


class Stopped(Exception):
    """The server is gone."""


def ids_of_grammar(grammar: str) -> list[int]:
    match = re.fullmatch(r"start: <\[([0-9,-]+)\]>", grammar)
    assert match is not None, f"no token grammar: {grammar}"
    bounds = [tuple(map(int, term.split("-"))) for term in match[1].split(",")]
    return [token_id for ends in bounds for token_id in range(ends[0], ends[-1] + 1)]


@contextmanager
def running(fake: FakeServer, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    """`fake` behind its `url`, with TLS where a context is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _answer(self, body: Mapping[str, Any]) -> None:
            try:
                status, kind, content = fake.answer(
                    self.command, self.path, self.headers.get("authorization", ""), body
                )
            except Stopped:
                self.server.gone = True  # type: ignore[attr-defined]
            if getattr(self.server, "gone", False):
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            for start in range(0, len(content), 1 if fake.trickle_s else len(content) or 1):
                try:
                    self.wfile.write(content[start : start + (1 if fake.trickle_s else len(content))])
                except OSError:  # the client has given up
                    return
                time.sleep(fake.trickle_s)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:  # a client that hung up; a test of a client is not about the server
            pass

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        server.gone = True  # type: ignore[attr-defined]  # kept connections end with their next request
        server.shutdown()
        server.server_close()
