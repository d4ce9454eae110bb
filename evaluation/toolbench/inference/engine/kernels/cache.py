"""Decides where Triton keeps compiled kernels: in its own place, or in one of this process where that fails.

Its folder is in HOME, which may be read-only, or on a network file system that many processes share: there a file
can be gone for a moment although it exists, and whoever meets that moment gets an error from the launch.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

_VARIABLE = "TRITON_CACHE_DIR"  # read by Triton whenever it compiles
_WAIT_S = 0.5  # a directory of a network file system is read again after some seconds at most

_own_folder: str | None = None


def launch(kernel: Callable[[], None]) -> None:
    """Launch a kernel; where its compilation meets a failing file, once more, then with a cache of this process."""
    try:
        kernel()
    except OSError as error:
        if isinstance(error, FileNotFoundError | TimeoutError):  # may be there the next time
            time.sleep(_WAIT_S)
            try:
                return kernel()
            except OSError as again:
                error = again
        _use_own_folder(error)
        kernel()


def _use_own_folder(error: OSError) -> None:
    """Keep kernels in a folder of this process from now on, which goes with it. OSError where there is no room."""
    global _own_folder
    if _own_folder is not None:
        raise error
    _own_folder = tempfile.mkdtemp(prefix="triton-")
    os.environ[_VARIABLE] = _own_folder
    atexit.register(shutil.rmtree, _own_folder, ignore_errors=True)
    logger.warning(
        "Triton's cache cannot be used (%s): kernels are compiled for this process alone; %s names another place",
        error,
        _VARIABLE,
    )
