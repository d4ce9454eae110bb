"""The check whether a Python has what the requirements ask for, which runs before anything is installed."""

import importlib.util
import platform
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("check_requirements", ROOT / "scripts/lib/check_requirements.py")
assert spec is not None
assert spec.loader is not None
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

INSTALLED = metadata.version("pytest")


@pytest.mark.parametrize(
    ("version", "bounds", "is_met"),
    [
        ("2.13.0+cpu", ">=2.11,<2.14", True),
        ("2.14.0", ">=2.11,<2.14", False),
        ("2.9.1", ">=2.11", False),
        ("3", ">=3.0.0", True),
        ("1.15", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, bounds, is_met):
    assert check.satisfies(version, bounds) is is_met


def test_what_is_missing_or_too_old_is_named_with_what_was_found(tmp_path):
    (tmp_path / "r.txt").write_text("no-such-package>=1,<2   # why\n\npytest>=1\npytest>=999\n")
    assert check.missing_from(tmp_path / "r.txt") == [
        "no-such-package>=1,<2 (not installed)",
        f"pytest>=999 (found {INSTALLED})",
    ]


def test_a_requirement_of_other_machines_is_not_missed_here(tmp_path):
    here = f'platform_system == "{platform.system()}"'
    (tmp_path / "r.txt").write_text(
        f'no-such-package>=1; {here}\nno-other-package>=1; {here} and platform_machine == "abacus"  # why\n'
    )
    assert check.missing_from(tmp_path / "r.txt") == ["no-such-package>=1 (not installed)"]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-checkout.txt", "requirements-dev.txt"])
def test_our_own_files_can_be_read(name):
    assert isinstance(check.missing_from(ROOT / name), list)
