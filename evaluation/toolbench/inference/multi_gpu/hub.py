"""Finds the files of a model of the Hugging Face Hub: the newest ones, or those in the cache.

The Hub is asked one short question. Its own client retries for minutes where a firewall or a dead mirror takes
connections and does not answer, and would do so again for every file and in every replica.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

import httpx

from evaluation.toolbench.http_client.proxies import proxy_for
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.time_limit import within

logger = logging.getLogger(__name__)

_ANSWER_S = 2.0
_ASKED = "TOOLGEN_HUB_ASKED"  # what this process or its parent has brought up to date: the cache is enough for it
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.ot")


@dataclass(frozen=True)
class _Reply:
    """Holds what the Hub said: the files of the newest revision, or why there are none."""

    files: tuple[str, ...] = ()
    problem: str = ""


def snapshot_of(name: str, *, weights: bool) -> Path:
    """Return the folder with the files of this model, with or without its weights; what is missing is downloaded.

    DataError where the Hub does not answer, or does not give them, and the cache has none.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return _cached(name, "is not asked (HF_HUB_OFFLINE)")
    wanted = f"{name}{'#weights' if weights else ''}"
    asked = os.environ.get(_ASKED, "").split()
    if wanted not in asked and f"{name}#weights" not in asked:
        reply = _ask(name)
        if reply.problem:
            folder = _cached(name, reply.problem)
            logger.warning("the Hub at %s %s: %s is taken from the cache, %s", _endpoint(), reply.problem, name, folder)
            wanted = f"{name}#weights"
        else:
            _download(name, _needed(reply.files, weights=weights))
        os.environ[_ASKED] = " ".join([*asked, wanted])  # replicas inherit it
    return _cached(name, "has just been asked")


@lru_cache(maxsize=8)
def _ask(name: str) -> _Reply:
    from huggingface_hub import HfApi

    try:
        proxy_for(httpx.URL(_endpoint()))
        info = within(_ANSWER_S, lambda: HfApi().model_info(name, timeout=_ANSWER_S))
    except ConfigError as error:
        return _Reply(problem=f"cannot be asked ({error})")
    except (TimeoutError, httpx.TimeoutException):
        return _Reply(problem=f"does not answer within {_ANSWER_S:g} s")
    except Exception as error:  # whatever the client and the network make of it
        return _Reply(problem=f"gives no files ({_first_line(error)})")
    return _Reply(tuple(sibling.rfilename for sibling in info.siblings or ()))


def _needed(files: Sequence[str], *, weights: bool) -> list[str]:
    """Return the files of the folder itself that transformers would read: of several forms of weights the safest."""
    here = [file for file in files if "/" not in file]
    small = [file for file in here if not any(fnmatch(file, pattern) for pattern in _WEIGHTS)]
    if not weights:
        return small
    safe = [file for file in here if file.endswith(".safetensors") and not file.startswith("consolidated")]
    return small + (safe or [file for file in here if fnmatch(file, "pytorch_model*.bin")])


def _download(name: str, files: Sequence[str]) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(name, allow_patterns=list(files))
    except Exception as error:  # of the network, of the disk, of rights
        raise DataError(f"cannot download {name} from {_endpoint()}: {_first_line(error)}") from error


def _cached(name: str, hub: str) -> Path:
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # the client has an error of its own for each way not to have it
        config = try_to_load_from_cache(name, "config.json")
        if isinstance(config, str):  # other forms of the weights are missing, which were not asked for
            return Path(config).parent
        raise DataError(
            f"{name} is neither a folder here nor a model in the cache {constants.HF_HUB_CACHE}, and the Hugging Face "
            f"Hub at {_endpoint()} {hub}"
        ) from error


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
