"""Set-up before anything is installed: which Python, which torch, and what is said where it cannot be."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.pipeline import ROOT


def script_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/lib/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


torch_index = script_module("torch_index")
package_index = script_module("package_index")

OLD = '#!/bin/sh\nif [ "$1" = -V ]; then echo Python 3.8.18; else exit 1; fi\n'
NEW = "#!/bin/sh\nexit 0\n"


def pythons(folder: Path, **scripts: str) -> str:
    """A PATH of what every shell has, with these programs in front and no other Python."""
    tools = folder / "bin"
    tools.mkdir()
    for name, text in scripts.items():
        (tools / name.replace("python3_", "python3.")).write_text(text)
        (tools / name.replace("python3_", "python3.")).chmod(0o755)
    for tool in ("bash", "dirname", "sed"):
        found = subprocess.run(["bash", "-c", f"type -P {tool}"], capture_output=True, text=True, check=True)
        (tools / tool).symlink_to(found.stdout.strip())
    return str(tools)


def new_enough_python(path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = f'ROOT={ROOT}; . "$ROOT/scripts/lib/python_env.sh"; new_enough_python'
    return subprocess.run(
        ["bash", "-c", script], env={"PATH": path, **environment}, capture_output=True, text=True, check=False
    )


def test_a_newer_python_beside_an_old_one_is_found(tmp_path):
    found = new_enough_python(pythons(tmp_path, python3=OLD, python3_11=NEW))
    assert (found.returncode, found.stdout, found.stderr) == (0, "python3.11\n", "")


@pytest.mark.parametrize(
    ("scripts", "environment", "said"),
    [
        ({"python3": OLD}, {}, "python3 is Python 3.8.18; this needs Python 3.10 or newer: set PYTHON to one."),
        ({"old": OLD, "python3": NEW}, {"PYTHON": "old"}, "old is Python 3.8.18; this needs Python 3.10 or newer"),
        ({}, {}, "No Python found ('python3'): install Python 3.10 or newer, or set PYTHON to one."),
    ],
)
def test_no_python_that_is_new_enough_is_one_line(tmp_path, scripts, environment, said):
    found = new_enough_python(pythons(tmp_path, **scripts), **environment)
    assert found.returncode == 1
    assert found.stderr.startswith(said)
    assert found.stderr.count("\n") == 1


Cards = torch_index.Cards


@pytest.mark.parametrize(
    ("cards", "system", "builds"),
    [
        (None, "Linux", ["cpu"]),
        (None, "Darwin", [""]),
        (Cards("580.95.05", ((9, 0),)), "Linux", [""]),
        (Cards("595.10", ((7, 5), (12, 0))), "Linux", [""]),
        (Cards("550.54.14", ((8, 9),)), "Linux", ["cu129", "cu128", "cu126"]),
        (Cards("570.86.10", ((12, 0),)), "Linux", ["cu129", "cu128"]),
        (Cards("535.183.01"), "Linux", ["cu129", "cu128", "cu126"]),
        (Cards("580.95.05", ((7, 0),)), "Linux", ["cu126"]),
        (Cards("470.256.02", ((7, 5),)), "Linux", []),
        (Cards(""), "Linux", [""]),
    ],
)
def test_the_builds_that_suit_a_driver_and_its_cards(cards, system, builds):
    assert torch_index.suitable_builds(cards, system) == builds


def test_the_first_build_that_is_offered_is_taken_and_said(capsys):
    index = torch_index.index_of(Cards("550.54.14", ((8, 9),)), "Linux", lambda build: build == "cu126")
    assert index == "https://download.pytorch.org/whl/cu126"
    said = capsys.readouterr().err
    assert said == (
        "The driver 550.54.14 is older than PyTorch's default build needs (580 or newer): taking the build cu126\n"
    )


@pytest.mark.parametrize("driver", ["550.54.14", "470.256.02"])
def test_a_driver_without_a_build_is_told_before_anything_is_fetched(driver, capsys):
    assert torch_index.index_of(Cards(driver), "Linux", lambda _: False) is None
    said = capsys.readouterr().err
    assert said.startswith(f"The driver {driver} is older than PyTorch's default build needs (580 or newer)")
    assert "Install a newer driver, or set TORCH_INDEX_URL" in said
    assert said.count("\n") == 1


PAGE = """
<a href="/whl/cu126/torch-2.10.0%2Bcu126-cp311-cp311-manylinux_2_28_x86_64.whl">torch-2.10.0+cu126-cp311-...</a>
<a href="/whl/cu126/torch-2.11.1%2Bcu126-cp312-cp312-manylinux_2_28_x86_64.whl#sha256=0">torch</a>
<a href="/whl/cu126/torch-2.11.0%2Bcu126-cp311-cp311-manylinux_2_28_aarch64.whl">torch</a>
"""


@pytest.mark.parametrize(
    ("python", "machine", "is_offered"),
    [("cp312", "x86_64", True), ("cp311", "aarch64", True), ("cp311", "x86_64", False), ("cp310", "x86_64", False)],
)
def test_an_index_offers_what_fits_version_python_and_machine(python, machine, is_offered):
    wanted = lambda version: version.startswith("2.11")  # noqa: E731
    assert torch_index.offers(PAGE, python, machine, wanted) == is_offered


def nvidia_smi(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


@pytest.mark.parametrize(
    ("script", "cards"),
    [
        ("echo '550.54.14, 8.9'; echo '550.54.14, 7.5'", Cards("550.54.14", ((8, 9), (7, 5)))),
        ("case $1 in *compute_cap*) echo 'Field \"compute_cap\" is not valid'; exit 2;; esac; echo 470.256.02",
         Cards("470.256.02")),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver'; exit 9", None),
    ],
)  # fmt: skip
def test_cards_are_read_from_nvidia_smi(tmp_path, monkeypatch, script, cards):
    nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if not Path("/proc/driver/nvidia/version").exists():
        assert torch_index.read_cards() == cards


def test_a_driver_that_does_not_work_is_quoted(tmp_path, monkeypatch, capsys):
    nvidia_smi(tmp_path, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    torch_index.read_cards()
    assert "Driver/library version mismatch. Restart the machine" in capsys.readouterr().err


def index_printed(tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Of a Python without torch."""
    program = [sys.executable, "-S", str(ROOT / "scripts/lib/torch_index.py"), str(ROOT / "requirements.txt")]
    return subprocess.run(
        program, capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin", **environment}, check=False
    )


def test_an_index_that_is_named_is_taken():
    assert index_printed(Path("/"), TORCH_INDEX_URL="https://mirror/cpu").stdout == "https://mirror/cpu\n"
    assert index_printed(Path("/"), TORCH_INDEX_URL="").stdout == "\n"


def test_an_environment_with_torch_keeps_its_torch():
    program = [sys.executable, str(ROOT / "scripts/lib/torch_index.py"), str(ROOT / "requirements.txt")]
    assert subprocess.run(program, capture_output=True, check=True, env={"TORCH_INDEX_URL": "x"}).stdout == b""


def test_a_driver_too_old_ends_set_up_before_pip_runs(tmp_path):
    nvidia_smi(tmp_path, "echo '470.256.02, 7.5'")
    run = index_printed(tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert "Install a newer driver" in run.stderr


# ---- without a network


@contextlib.contextmanager
def an_index(status: int):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.mark.parametrize("status", [200, 404, 401])
def test_an_index_that_answers_is_there(status):
    with an_index(status) as url:
        assert package_index.message_for({"index-url": url}) == ("", True)


UNREACHABLE = "http://user:secret@127.0.0.1:1/simple"


def test_an_index_that_cannot_be_reached_is_said_first():
    said, may_work = package_index.message_for({"index-url": UNREACHABLE})
    assert said.startswith("The package index http://127.0.0.1:1/simple cannot be reached (")
    assert "PIP_INDEX_URL" in said
    assert not may_work


def test_pip_may_have_other_places():
    said, may_work = package_index.message_for({"index-url": UNREACHABLE, "find-links": "/wheels"})
    assert said.endswith(": only what /wheels has can be installed.")
    assert may_work
    assert package_index.message_for({"index-url": UNREACHABLE, "no-index": "true"}) == ("", True)


def test_set_up_without_a_network_says_so_and_runs_no_resolver(tmp_path):
    (tmp_path / "tree").mkdir()
    shutil.copytree(ROOT / "scripts/lib", tmp_path / "tree/scripts/lib")
    shutil.copy(ROOT / "requirements.txt", tmp_path / "tree")
    script = 'ROOT=$1; . "$1/scripts/lib/python_env.sh"; make_python_with "$1/requirements.txt"'
    environment = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": UNREACHABLE, "PIP_CONFIG_FILE": os.devnull}
    run = subprocess.run(
        ["bash", "-c", script, "-", str(tmp_path / "tree")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    lines = run.stderr.splitlines()
    assert lines[1].startswith("The package index http://127.0.0.1:1/simple cannot be reached")
    assert len(lines) == 3
    assert "conflicting" not in run.stderr
