"""Executes the tools' own code: `<category>/<tool>/api.py` has one function per API.

A file is loaded as a module of its own, once, and its function is called with keyword arguments: what a
model wrote is data throughout and never becomes code.
"""

from __future__ import annotations

import importlib.util
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from evaluation.toolbench.inference.Downstream_tasks.functions import pure_api_name
from evaluation.toolbench.inference.Downstream_tasks.tool_files import ToolFiles
from evaluation.toolbench.inference.errors import DataError


class ApiFiles:
    """Executes the `api.py` files below `root`, each by the first call. Calls may come from any thread."""

    def __init__(self, root: str | Path) -> None:
        self._tool_files = ToolFiles(root)
        self._modules: dict[Path, ModuleType] = {}
        self._lock = threading.Lock()

    def function(self, category: str, tool_name: str, api_name: str) -> Callable[..., Any]:
        """Return the function of an API. Names may be raw or standardized; `api_name` must be one of the tool's.

        DataError for an unknown tool or API and for a file without such a function; what the file itself
        raises when it is loaded passes through.
        """
        entry = {"category_name": category, "tool_name": tool_name, "api_name": api_name}
        api_json = self._tool_files.api_json(entry)
        if api_json is None:
            raise DataError(f"the tool {tool_name!r} has no API {api_name!r}", tool_name=tool_name)
        path = self._tool_files.path_of(entry).with_suffix("") / "api.py"
        name = pure_api_name(api_json["api_name"])
        function = vars(self._module(path)).get(name)
        if not inspect.isfunction(function):
            raise DataError(f"{path.name} of the tool {tool_name!r} has no function {name}", tool_name=tool_name)
        return function

    def _module(self, path: Path) -> ModuleType:
        with self._lock:
            if path not in self._modules:
                self._modules[path] = _load(path)
            return self._modules[path]


def _load(path: Path) -> ModuleType:
    """Load the module in `path`, outside `sys.modules`: several tools' files have the same name."""
    if not path.is_file():
        raise DataError(f"there is no {path.name} for the tool {path.parent.name}")
    spec = importlib.util.spec_from_file_location(f"api_of_{path.parent.name}", path)
    assert spec is not None  # a file that ends in .py has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
