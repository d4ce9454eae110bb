"""Which package index should torch come from? Prints its URL, or nothing where pip's own is right.

PyTorch's packages for Linux on PyPI bring CUDA's libraries along, 5 GB of them, which are of no use without an NVIDIA
card. PyTorch has an index of builds for CPUs (https://pytorch.org/get-started/locally/). TORCH_INDEX_URL names another
one, such as a mirror, or none when it is empty. Standard library only, since it runs before anything is installed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_REPLY_S = 5


def torch_index(environment: Mapping[str, str], *, has_nvidia: bool, system: str) -> str:
    """The index to use by what is asked for and by what the machine is: "" for pip's own.

    >>> torch_index({}, has_nvidia=False, system="Linux")
    'https://download.pytorch.org/whl/cpu'
    >>> torch_index({}, has_nvidia=True, system="Linux")
    ''
    """
    if "TORCH_INDEX_URL" in environment:
        return environment["TORCH_INDEX_URL"]
    return CPU_INDEX if system == "Linux" and not has_nvidia else ""


def has_nvidia_card() -> bool:
    """Whether the driver is loaded, or its tool lists a card."""
    if os.path.exists("/proc/driver/nvidia/version"):
        return True
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True, check=False).stdout.startswith(b"GPU")


def main() -> None:
    if importlib.util.find_spec("torch"):  # whoever installed it chose a build
        return
    index = torch_index(os.environ, has_nvidia=has_nvidia_card(), system=platform.system())
    if index and "TORCH_INDEX_URL" not in os.environ:
        try:
            urllib.request.urlopen(f"{index}/torch/", timeout=_REPLY_S).close()
        except OSError:
            print(
                "No NVIDIA card here, and PyTorch's index of CPU builds cannot be reached: taking the default build. "
                "TORCH_INDEX_URL names a mirror.",
                file=sys.stderr,
            )
            return
        print("No NVIDIA card here: taking PyTorch's build for CPUs", file=sys.stderr)
    print(index)


if __name__ == "__main__":
    main()
