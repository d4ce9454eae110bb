"""Tells whether this machine's GPUs work for ToolGen on many GPUs, and what to do where they do not.

    python test_multi_gpu.py                        every check, a line for each, and a verdict
    python test_multi_gpu.py --model_path FOLDER    the same with your checkpoint
    python test_multi_gpu.py --simulate 3x24GiB     the layout for GPUs that are not here
    python test_multi_gpu.py --json                 the same facts for an issue report

The same as `bash scripts/toolgen.sh doctor`, whose environment it uses if its own Python lacks packages.

Under pytest each check is a test; what needs more GPUs than there are is skipped and says so.
"""

from __future__ import annotations

import functools
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.toolbench.inference.doctor.machine import Machine


def pytest_generate_tests(metafunc: Any) -> None:
    from evaluation.toolbench.inference.doctor.command import CHECKS

    if "check" in metafunc.fixturenames:
        metafunc.parametrize("check", CHECKS)


def test_this_machine(check: str) -> None:
    import pytest

    from evaluation.toolbench.inference.doctor.command import CHECKS

    findings = CHECKS[check](_machine())
    failed = [line for finding in findings if finding.status == "fail" for line in finding.lines()]
    assert not failed, "\n".join(failed)
    if all(finding.status == "skip" for finding in findings):
        pytest.skip("; ".join(finding.measured for finding in findings))


@functools.cache
def _machine() -> Machine:
    """Return one machine for all tests, so that the model is loaded once."""
    from evaluation.toolbench.inference.doctor.machine import Machine, Options

    return Machine(Options())


if __name__ == "__main__":
    from pathlib import Path

    from evaluation.toolbench.inference.doctor.options import make_parser
    from evaluation.toolbench.launcher.set_up import use_set_up_python

    make_parser().parse_args()  # help and mistakes come before packages that take seconds to import
    use_set_up_python(Path(__file__).resolve().parent, "doctor")
    try:
        from evaluation.toolbench.inference.doctor.command import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
