"""Where calls of APIs go: to an API server, or to the tools' own code on this machine."""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Protocol

from evaluation.toolbench.inference.Downstream_tasks.local_apis import LocalApis
from evaluation.toolbench.virtual_api.client import ApiClient

DEFAULT_SERVICE_URL = "http://localhost:8080/virtual"


class ApiCaller(Protocol):
    """`call` may be used from any thread; what goes wrong is an observation and a status code too."""

    def call(self, *, category: str, tool_name: str, api_name: str, tool_input: str, strip: str) -> tuple[str, int]: ...


def service_url() -> str:
    """The API server's address: the environment variable SERVICE_URL, else a server on this machine."""
    return os.environ.get("SERVICE_URL") or DEFAULT_SERVICE_URL


def api_caller(args: Any) -> ApiCaller:
    """What the command line asks for. Equal arguments give the same object, so a process has one."""
    if args.use_rapidapi_key or args.api_customization:
        return _local_apis(str(args.tool_root_dir), args.rapidapi_key, args.api_customization)
    return _api_client(service_url(), args.toolbench_key)


@cache
def _api_client(url: str, toolbench_key: str) -> ApiClient:
    return ApiClient(url, toolbench_key=toolbench_key)


@cache
def _local_apis(tools_root: str, rapidapi_key: str, api_customization: bool) -> LocalApis:
    return LocalApis(tools_root, rapidapi_key=rapidapi_key, api_customization=api_customization)
