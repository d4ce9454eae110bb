"""Measures how much of a judge's time scoring wastes: `python -m benchmarks.judge_throughput --help`.

What to expect: a judge that takes 50 ms for a reply and is asked 64 questions at a time gives 1,280 verdicts a second,
so that 10,000 take 7.8 s. Scoring has 0.78 ms of processor time for each: to write its request, to read its reply and
to keep it in the log. On a machine that is busy with other things, judge and scoring wait for a core as well: "bare"
is the time that the same number of requests takes over the same connections with nothing around them, just before.
Memory grows by the verdicts alone, some 0.3 KB each, and not by the replies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import processes
from evaluation.toolbench.http_client.connection import HttpConnection
from evaluation.toolbench.inference.process_watch import when_process_ends
from evaluation.toolbench.tooleval.asking import Asking
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.chat_judge import ChatJudge
from evaluation.toolbench.tooleval.judge.interface import Question, Reply
from evaluation.toolbench.tooleval.judge.prompts import DEFAULT_EVALUATOR, load_tooleval_prompts
from evaluation.toolbench.tooleval.judge.settings import JudgeSettings
from evaluation.toolbench.tooleval.pass_rate_run import PassRateRun

_MODEL = "fake-judge"
_REASON = "The answer names what was asked for, and the calls before it returned just that. " * 3
_WARM_UP = 0.2  # of the verdicts, before memory is looked at first
_PATIENCE_S = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 after a table and, last, a line of JSON on stdout; 1 if more than `--within` of the ideal is needed."""
    arguments = _parser().parse_args(argv)
    if arguments.serve:
        asyncio.run(_serve(arguments.serve, arguments.latency_s))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "url"
        command = ("-m", "benchmarks.judge_throughput", "--serve", str(ready), "--latency_s", str(arguments.latency_s))
        judge = processes.start(*command, environment=dict(os.environ))
        try:
            url = _wait_for(ready)
            result = asyncio.run(_measure(arguments, url, Path(folder)))
        finally:
            processes.end(judge)
    _print_table(result)
    print(json.dumps({"cores": os.cpu_count(), "machine": platform.machine(), **result}))
    return 0 if result["of_ideal"] <= 1 + arguments.within else 1


class _WatchedJudge(ChatJudge):
    """Looks at this process's memory as the replies come."""

    def __init__(self, *settings: Any, num_verdicts: int) -> None:
        super().__init__(*settings)
        self.rss_bytes: list[int] = []
        self._looks = {int(num_verdicts * _WARM_UP), num_verdicts}
        self._num_replies = 0
        self._process = psutil.Process()

    async def ask(self, question: Question, attempt: int) -> Reply:
        reply = await super().ask(question, attempt)
        self._num_replies += 1
        if self._num_replies in self._looks:
            self.rss_bytes.append(self._process.memory_info().rss)
        return reply


async def _measure(arguments: argparse.Namespace, url: str, folder: Path) -> dict[str, Any]:
    num_queries = arguments.verdicts // arguments.repeats
    num_verdicts = num_queries * arguments.repeats
    prompts = load_tooleval_prompts(DEFAULT_EVALUATOR, [folder])
    settings = JudgeSettings.of({}, url=url, model=_MODEL)
    judge = _WatchedJudge(settings, prompts, lambda _: None, num_verdicts=num_verdicts)
    asking = Asking(arguments.in_flight, threading.Event())
    run = PassRateRun(judge, asking, model="model", folder=folder, num_repeats=arguments.repeats)
    answers = {str(number): _answer(str(number)) for number in range(num_queries)}
    await judge.open()
    bare_s = await _bare_s(url, num_verdicts, arguments.in_flight)
    started, cpu_started = time.perf_counter(), time.process_time()
    scored = await run.score("set", answers, list(answers))
    elapsed_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    await judge.close()
    assert scored.rate.solve_rate == 100
    ideal_s = -(-num_verdicts // arguments.in_flight) * arguments.latency_s
    first, last = judge.rss_bytes
    return {
        "verdicts": num_verdicts,
        "in_flight": arguments.in_flight,
        "latency_ms": arguments.latency_s * 1000,
        "ideal_s": round(ideal_s, 2),
        "elapsed_s": round(elapsed_s, 2),
        "of_ideal": round(elapsed_s / ideal_s, 3),
        "bare_s": round(bare_s, 2),
        "of_bare": round(elapsed_s / bare_s, 3),
        "verdicts_per_s": round(num_verdicts / elapsed_s),
        "cpu_ms_per_verdict": round(cpu_s / num_verdicts * 1000, 3),
        "rss_mib": round(last / 2**20, 1),
        "rss_growth_mib": round((last - first) / 2**20, 1),
        "rss_growth_bytes_per_verdict": round((last - first) / (num_verdicts * (1 - _WARM_UP))),
    }


async def _bare_s(url: str, num_requests: int, in_flight: int) -> float:
    """Return seconds that as many requests take by themselves."""
    content = json.dumps({"model": _MODEL, "messages": [{"role": "user", "content": "x" * 3000}]}).encode()
    waiting = iter(range(num_requests))

    async def send() -> None:
        connection = HttpConnection(httpx.URL(url), connect_timeout_s=_PATIENCE_S, max_response_bytes=2**20)
        for _ in waiting:
            await connection.request("POST", "/v1/chat/completions", {"content-type": "application/json"}, content)
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(in_flight)))
    return time.perf_counter() - started


def _answer(query_id: str) -> ConvertedAnswer:
    """Return an answer of the usual length: 2,000 characters."""
    arguments = json.dumps({"return_type": "give_answer", "final_answer": f"Answer {query_id}. " * 110})
    message = {"name": "Finish", "arguments": arguments, "response": ""}
    details = [{"role": "tool", "message": message, "next": []}]
    answer = {"method": "CoT@1", "total_steps": 1, "final_answer": arguments, "answer_details": details}
    return ConvertedAnswer(query_id, f"Question {query_id}?", [], answer)


async def _serve(ready: Path, latency_s: float) -> None:
    """Serve a judge that says Solved after a while, in as little time of its own as Python allows."""
    when_process_ends(os.getppid(), lambda: os._exit(0))
    function = {"name": "check_answer_status", "arguments": json.dumps({"answer_status": "Solved", "reason": _REASON})}
    message = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    usage = {"prompt_tokens": 700, "completion_tokens": 60}
    completion = {"model": _MODEL, "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    body = json.dumps(completion).encode()
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    loop = asyncio.get_running_loop()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self._transport, self._received, self._missing = transport, b"", 0

        def data_received(self, data: bytes) -> None:
            self._received += data
            head, end, content = self._received.partition(b"\r\n\r\n")
            if end and len(content) >= int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
                self._received = b""
                loop.call_later(latency_s, self._transport.write, reply)

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = await loop.create_server(Connection, sock=listener)
    part = ready.with_suffix(".part")
    part.write_text(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    part.rename(ready)
    await server.serve_forever()


def _wait_for(ready: Path) -> str:
    deadline = processes.Deadline(_PATIENCE_S)
    while not ready.exists():
        deadline.require()
        time.sleep(0.02)
    return ready.read_text()


def _print_table(result: dict[str, Any]) -> None:
    table = Table("", "value")
    for name, value in result.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judge_throughput",
        description="Time and memory of scoring against a judge of a fixed latency, beside the ideal. Prints a table "
        "and, as its last line, JSON.",
    )
    parser.add_argument(
        "--verdicts", type=int, default=10_000, metavar="N", help="verdicts to ask for (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=4, metavar="N", help="verdicts of each query (default: %(default)s)"
    )
    parser.add_argument(
        "--in_flight", type=int, default=64, metavar="N", help="questions at once (default: %(default)s)"
    )
    parser.add_argument(
        "--latency_s", type=float, default=0.05, metavar="S", help="seconds of each reply (default: %(default)s)"
    )
    parser.add_argument("--within", type=float, default=0.1, metavar="SHARE", help="of the ideal time that may be lost")
    parser.add_argument("--serve", type=Path, metavar="FILE", help=argparse.SUPPRESS)  # be the judge; its URL goes here
    return parser


if __name__ == "__main__":
    sys.exit(main())
