"""Prints the GPU block with which the main script begins: `python -m evaluation.toolbench.inference.multi_gpu.banner`.

Names and order are torch's, because they are what the run will use.
"""

from __future__ import annotations

import io
import os
import sys

import torch


def banner() -> str:
    """Return the block, every value as found. Lines and wording are fixed: users and their logs know them."""
    is_available = torch.cuda.is_available()
    count = torch.cuda.device_count() if is_available else 0  # a driver may list GPUs that CUDA cannot use
    return "\n".join(
        [
            "=== GPU配置信息 ===",
            f"CUDA_VISIBLE_DEVICES: {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}",
            f"CUDA available: {is_available}",
            f"GPU count: {count}",
            *(f"GPU {index}: {torch.cuda.get_device_name(index)}" for index in range(count)),
            "==================",
        ]
    )


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these characters must not stop a run
    print(banner())
