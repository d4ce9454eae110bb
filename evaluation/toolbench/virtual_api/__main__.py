"""Runs the virtual API server's command line: `python -m evaluation.toolbench.virtual_api --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.toolbench.inference.command_line import OneLineParser, called_as, say
from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.virtual_api.config import ServerConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. 0 after a stop, 2 when the server could not start."""
    arguments = vars(make_parser().parse_args(argv))
    try:
        config = ServerConfig.of(arguments, os.environ)
        from evaluation.toolbench.virtual_api.serving import serve  # after the arguments: --help answers at once

        serve(config)
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK") == "1":
            raise
        say(error)
        return error.exit_code
    except KeyboardInterrupt:  # before the server took over the signals
        pass
    return 0


def make_parser() -> OneLineParser:
    default = ServerConfig
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.virtual_api"),
        examples="toolgen api --cache_dir tool_response_cache      # then, elsewhere: SERVICE_URL=http://localhost:8080/virtual",
        description="Replay recorded API answers (a StableToolBench response cache) at POST /virtual. "
        "Needs no key and no network. GET /health tells how many requests were answered how. What is not recorded can "
        "be asked of another server (--forward_url) or of a chat model that simulates APIs (--simulator_url, whose key "
        "is $SIMULATOR_API_KEY).",
    )
    add = parser.add_argument
    # fmt: off
    add("--cache_dir", type=Path, default=default.cache_dir, metavar="DIR",
        help="folder of <category>/<tool>/<api>.json (default: %(default)s)")
    add("--host", default=default.host,
        help="address to listen on; the server has no authentication (default: %(default)s)")
    add("--port", type=int, default=default.port, help="0 picks a free one (default: %(default)s)")
    add("--fuzzy", action=argparse.BooleanOptionalAction, default=default.fuzzy,
        help="also answer when the arguments are recorded in another order, or with numbers as text; "
        "the exact arguments always come first (default: on)")
    add("--forward_url", metavar="URL",
        help="on a miss ask this API server, and record good answers in the cache folder "
        "(default: a miss is answered with an error)")
    add("--forward_timeout_s", type=float, default=default.forward_timeout_s, metavar="S",
        help="longest wait for that server (default: %(default)s)")
    add("--simulator_url", metavar="URL",
        help="on a miss ask the chat model at this OpenAI-compatible server, such as http://localhost:8000/v1, what "
        "the API would reply; its replies are kept in a folder of their own and replayed from then on "
        "(default: $SIMULATOR_URL)")
    add("--simulator_model", metavar="NAME",
        help="its model, such as MirrorAPI (default: $SIMULATOR_MODEL, or the only one that is served)")
    add("--simulator_seed", type=int, default=default.simulator_seed, metavar="N",
        help="of its requests, at temperature 0 (default: %(default)s)")
    add("--simulator_timeout_s", type=float, default=default.simulator_timeout_s, metavar="S",
        help="longest that a call waits for it; then it counts as a miss (default: %(default)s)")
    add("--simulator_prompts", type=Path, metavar="DIR",
        help="checkout of StableToolBench that has MirrorAPI's system prompt (default: $SIMULATOR_PROMPTS, or the "
        "one around the cache; without any our own wording)")
    add("--simulated_dir", type=Path, metavar="DIR",
        help="folder for what it said (default: $SIMULATED_DIR, or beside the cache, its name with "
        "_simulated)")
    add("--tools_dir", type=Path, metavar="DIR",
        help="folder of <category>/<tool>.json, with the documentation that the simulator is told")
    add("--max_body_bytes", type=int, default=default.max_body_bytes, metavar="N",
        help="larger requests are refused with status 413 (default: %(default)s)")
    add("--cache_memory_mib", type=int, default=default.cache_memory_mib, metavar="N",
        help="cache files kept in memory, by size on disk (default: %(default)s)")
    add("--ready_file", type=Path, metavar="FILE",
        help="gets the server's URL once it listens; removed when it stops")
    add("--log_file", type=Path, metavar="FILE", help="gets one JSON line per request, without keys")
    add("--exit_with_parent", type=int, metavar="PID", help="stop when the process with this id has ended")
    # fmt: on
    return parser


if __name__ == "__main__":
    sys.exit(main())
