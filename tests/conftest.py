from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Tiny models lose far more to threads than they gain, and the tests' own processes share the cores. Before
# anything imports torch, so that every process started here inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start background jobs with these ignored, and every process that the tests start would inherit it.
with contextlib.suppress(ValueError):  # not the main thread
    for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(_number) == signal.SIG_IGN:
            signal.signal(_number, _handler)

# The machine is busy with the tests' own processes: how long an example takes says nothing.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes minutes, unless asked for; begin with files of slow tests, lest one process end with them."""
    if not os.environ.get("TOOLGEN_TEST_LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: TOOLGEN_TEST_LONG=1 runs it"))
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


if importlib.util.find_spec("torch") is None:
    # A Python without torch runs the rest of the suite: what asks for torch skips, and folders whose fixtures do.
    collect_ignore = []
    for _conftest in Path(__file__).parent.glob("*/conftest.py"):
        try:
            importlib.import_module(f"tests.{_conftest.parent.name}.conftest")
        except ModuleNotFoundError:
            collect_ignore.append(_conftest.parent.name)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, Any]:
        report = yield
        if report.failed and "No module named 'torch'" in str(report.longrepr):
            report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "Skipped: needs torch")
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
        try:
            return (yield)
        except ModuleNotFoundError as error:
            if error.name == "torch":
                pytest.skip("needs torch")
            raise
