"""Defines the doctor's command line. It imports no package, so that --help and mistakes answer at once."""

from __future__ import annotations

import argparse

from evaluation.toolbench.inference.command_line import (
    OneLineParser,
    auto_or_positive,
    called_as,
    positive,
    text_or_none,
)
from evaluation.toolbench.inference.engine import KV_CACHES
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, LONGEST_CONVERSATION
from evaluation.toolbench.inference.multi_gpu.number_formats import WEIGHTS

_EXAMPLES = """
toolgen doctor                                       # every check, a line for each, and a verdict
toolgen doctor --model_path /models/ToolGen-Llama-3-8B
toolgen doctor --simulate 3xRTX4090                  # the plan for GPUs that are not here, by name or by memory
toolgen doctor --simulate 3x24GiB --weights fp8      # with weights in 8 bits, beside what others would give
toolgen doctor --simulate 8x80GiB --num_thread 64    # with 64 conversations in each replica
toolgen doctor --json > doctor.json                  # the same facts for an issue report
"""


def make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog=called_as("test_multi_gpu.py"),
        description="Check whether this machine's GPUs work for ToolGen, say what to do where they do not, and plan "
        "how a model will lie on them.",
        examples=_EXAMPLES,
        epilog="Exit code: 0 all good, 1 a check failed, 2 could not start.",
    )
    add = parser.add_argument
    # fmt: off
    add("--model_path", metavar="PATH",
        help="checkpoint to plan for and to load (default: plan for ToolGen-Llama-3-8B, load the demo)")
    add("--simulate", metavar="GPUS",
        help="plan for GPUs that are not here, by card or by memory: 3xRTX4090, 8xA100-40GB, 2x24GiB,1x80GiB")
    add("--num_gpus", type=positive, metavar="N", help="use at most this many GPUs (default: all visible)")
    add("--num_replicas", type=auto_or_positive, default=AUTO, metavar="N",
        help="copies of the model: auto or a number")
    add("--max_gpu_memory", type=text_or_none, metavar="SIZE",
        help='"20GiB" or "80%%" for every GPU, "20GiB,10GiB" one per GPU (default: 85%% of what is free)')
    add("--num_thread", type=auto_or_positive, default=AUTO, metavar="N",
        help="conversations at once in each replica: auto, as many as fit, or a number")
    add("--max_sequence_length", "--max_tokens", type=positive, default=LONGEST_CONVERSATION, metavar="N",
        help="longest conversation, in tokens")
    add("--num_queries", type=positive, metavar="N", help="queries to predict the time for (default: 765)")
    add("--dtype", default=AUTO, help="auto, bfloat16, float16, float32")
    add("--weights", default=AUTO, choices=WEIGHTS,
        help="of the decoder's linear layers: auto, as --dtype; int8; fp8, on cards that have it")
    add("--kv_cache", default=AUTO, choices=KV_CACHES, help="keys and values: auto, as --dtype; fp8, on any card")
    add("--cpu_offloading", action="store_true",
        help="let layers that do not fit on the GPUs lie in main memory, which makes every token slow")
    add("--json", action="store_true", help="print the same facts as JSON, errors too")
    # fmt: on
    return parser
