"""Prints the URL of the package index that torch should come from, or nothing where pip's own is right.

    python torch_index.py requirements.txt

PyTorch's packages for Linux on PyPI bring CUDA's libraries along, 5 GB of them. They are of no use without an NVIDIA
card, nor with a driver that is older than those libraries, nor on a card that they have no kernels for; PyTorch has
indexes of other builds (https://pytorch.org/get-started/locally/). TORCH_INDEX_URL names one, such as a mirror's, or
none when it is empty. Exit code 1, before anything is fetched, where no build suits the driver. Standard library only,
since it runs before anything is installed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BUILDS = "https://download.pytorch.org/whl"
CPU_INDEX = f"{BUILDS}/cpu"
DEFAULT = ""  # pip's own index
_DRIVER_OF_CUDA_13, _DRIVER_OF_CUDA_12 = 580, 525  # the oldest that runs them, by its first number
_CUDA_12_BUILDS = ("cu129", "cu128", "cu126")
_FIRST_OF_CUDA_13, _FIRST_OF_BLACKWELL = (7, 5), (10, 0)  # compute capability
_REPLY_S = 5


@dataclass(frozen=True)
class Cards:
    """Holds what is known of this machine's NVIDIA cards; `driver` is "" where that cannot be read."""

    driver: str
    capabilities: tuple[tuple[int, int], ...] = ()


def suitable_builds(cards: Cards | None, system: str) -> list[str]:
    """Return the builds to try, the best first; none where the driver is too old for any.

    >>> suitable_builds(None, "Linux"), suitable_builds(Cards("580.95.05", ((9, 0),)), "Linux")
    (['cpu'], [''])
    >>> suitable_builds(Cards("550.54.14", ((8, 9),)), "Linux")
    ['cu129', 'cu128', 'cu126']
    """
    if system != "Linux":
        return [DEFAULT]
    if cards is None:
        return ["cpu"]
    major = int(cards.driver.partition(".")[0] or _DRIVER_OF_CUDA_13)  # not known: nothing speaks against the default
    oldest, newest = min(cards.capabilities, default=(9, 0)), max(cards.capabilities, default=(9, 0))
    if major < _DRIVER_OF_CUDA_12:
        return []
    if oldest < _FIRST_OF_CUDA_13:  # V100: only the oldest builds still have kernels for it
        return ["cu126"]
    if major >= _DRIVER_OF_CUDA_13:
        return [DEFAULT]
    return [build for build in _CUDA_12_BUILDS if build != "cu126" or newest < _FIRST_OF_BLACKWELL]


def read_cards() -> Cards | None:
    """Return what nvidia-smi and the driver's files say; None without a card."""
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        for fields in ("driver_version,compute_cap", "driver_version"):  # old ones do not know the second
            asked = [tool, f"--query-gpu={fields}", "--format=csv,noheader"]
            run = subprocess.run(asked, capture_output=True, text=True, check=False)
            rows = [row.split(",") for row in run.stdout.splitlines() if re.match(r"\d+\.\d+", row)]
            if run.returncode == 0 and rows:
                capabilities = re.findall(r"(\d+)\.(\d+)", " ".join(row[1] for row in rows if len(row) > 1))
                return Cards(rows[0][0].strip(), tuple((int(major), int(minor)) for major, minor in capabilities))
        said = " ".join((run.stdout + run.stderr).split())
        if "mismatch" in said:
            print(f"nvidia-smi: {said[:200]}. Restart the machine before you use its GPUs.", file=sys.stderr)
    try:
        loaded = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b(\d{3,}\.\d+(\.\d+)?)\b", loaded)
    return Cards(found[1] if found else "")


def index_of(cards: Cards | None, system: str, has_build: Callable[[str], bool]) -> str | None:
    """Return the index to use, or None where this machine has none; `has_build` looks whether a build is offered.

    Says on stderr what is taken and why, where it is not pip's own.
    """
    builds = suitable_builds(cards, system)
    found = next((build for build in builds if build == DEFAULT or has_build(build)), None)
    if found == DEFAULT:
        return DEFAULT
    if cards is None:
        if found is None:
            print(
                "No NVIDIA card here, and PyTorch's index of CPU builds cannot be reached: taking the default build. "
                "TORCH_INDEX_URL names a mirror.",
                file=sys.stderr,
            )
            return DEFAULT
        print("No NVIDIA card here: taking PyTorch's build for CPUs", file=sys.stderr)
        return CPU_INDEX
    old = f"The driver {cards.driver} is older than PyTorch's default build needs ({_DRIVER_OF_CUDA_13} or newer)"
    if int(cards.driver.partition(".")[0] or 0) >= _DRIVER_OF_CUDA_13:
        oldest = ".".join(map(str, min(cards.capabilities)))
        old = f"PyTorch's default build has no kernels for a card of compute capability {oldest}"
    if found is None:
        looked = f", and none that suits was found in {BUILDS}/: {', '.join(builds)}" if builds else ""
        print(
            f"{old}{looked}. Install a newer driver, or set TORCH_INDEX_URL to a mirror's index of a suitable build "
            "(empty: take the default build all the same).",
            file=sys.stderr,
        )
        return None
    print(f"{old}: taking the build {found}", file=sys.stderr)
    return f"{BUILDS}/{found}"


def offers(page: str, python: str, machine: str, is_wanted: Callable[[str], bool]) -> bool:
    """Return whether an index's page of torch has a wanted version for this Python ("cp311") and machine ("x86_64")."""
    wheels = re.findall(rf"torch-(\d+\.\d+\.\d+)(?:%2B|\+)?[a-z0-9.]*-{python}-{python}[^\s\"'<>]*{machine}", page)
    return any(map(is_wanted, wheels))


def main(requirements: Path) -> int:
    from check_requirements import satisfies  # beside this file

    if importlib.util.find_spec("torch"):  # whoever installed it chose a build
        return 0
    if "TORCH_INDEX_URL" in os.environ:
        print(os.environ["TORCH_INDEX_URL"])
        return 0
    found = re.search(r"^torch([><=][^ #]*)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    bounds = found[1] if found else ""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"

    def has_build(build: str) -> bool:
        try:
            with urllib.request.urlopen(f"{BUILDS}/{build}/torch/", timeout=_REPLY_S) as reply:
                page = reply.read().decode(errors="replace")
        except OSError:
            return False
        return offers(page, python, platform.machine(), lambda version: satisfies(version, bounds))

    index = index_of(read_cards(), platform.system(), has_build)
    if index is None:
        return 1
    print(index)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
