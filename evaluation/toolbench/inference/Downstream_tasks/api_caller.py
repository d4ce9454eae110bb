"""Decides where calls of APIs go: to an API server, or to the tools' own code on this machine."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol

from evaluation.toolbench.inference.Downstream_tasks.config import ToolConfig
from evaluation.toolbench.inference.Downstream_tasks.local_apis import LocalApis
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.simulator.state import SimulatorState

DEFAULT_SERVICE_URL = "http://localhost:8080/virtual"


class ApiCaller(Protocol):
    """`call` may be used from any thread; what goes wrong is an observation and a status code too.

    `timeout_s` may shorten the call's own limit. ApiError where nobody is there to be asked.
    """

    def call(
        self,
        *,
        category: str,
        tool_name: str,
        api_name: str,
        tool_input: str,
        strip: str,
        timeout_s: float | None = None,
    ) -> tuple[str, int]: ...


def service_url() -> str:
    """Return the API server's address: the environment variable SERVICE_URL, else a server on this machine."""
    return os.environ.get("SERVICE_URL") or DEFAULT_SERVICE_URL


def api_caller(tools: ToolConfig) -> ApiCaller:
    """Return what `tools` asks for. Equal configurations give the same object, so a process has one."""
    if tools.use_rapidapi_key or tools.api_customization:
        return _local_apis(tools.tool_root_dir, tools.rapidapi_key, tools.api_customization)
    return _api_client(service_url(), tools.toolbench_key)


def simulator_of(tools: ToolConfig) -> SimulatorState | None:
    """Return what the API server tells of its simulator; None without such a server, and for one that does not tell."""
    caller = api_caller(tools)
    return caller.simulator() if isinstance(caller, ApiClient) else None


@cache
def _api_client(url: str, toolbench_key: str) -> ApiClient:
    return ApiClient(url, toolbench_key=toolbench_key)


@cache
def _local_apis(tools_root: str, rapidapi_key: str, api_customization: bool) -> LocalApis:
    return LocalApis(tools_root, rapidapi_key=rapidapi_key, api_customization=api_customization)
