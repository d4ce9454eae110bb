"""What the READMEs show works as shown: every command that needs neither a GPU nor a network, in a fresh clone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.toolbench.demo import MODEL_DIR, score
from evaluation.toolbench.inference.doctor.command import main as doctor
from tests.helpers.pipeline import ROOT
from tests.helpers.script import SCRIPT as MAIN_SCRIPT

ENGLISH, CHINESE = "README_multi_gpu.md", "README_multi_gpu_ZH.md"
PAGES = [
    "README.md",
    ENGLISH,
    CHINESE,
    "CONTRIBUTING.md",
    *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
]

# Commands that are not run here, by how they begin, and why.
NOT_RUN = {
    "bash scripts/run_tests.sh": "it runs this test",
    "git ": "needs a checkout: test_drop_in.py has one, and runs the whole block there",
    "cp requirements.txt /path/to/ToolGen": "the same",
    "cp -r evaluation": "the same",
    "cp training/src": "needs ToolGen's data",
    "cd /path/to/ToolGen": "needs a checkout; the batch job of SLURM needs SLURM",
    "tar xzf data.tar.gz": "needs ToolGen's data",
    "SIMULATOR_URL=http": "needs a simulator: test_simulator_run.py has one",
    "CUDA_VISIBLE_DEVICES=0,1,2": "needs three GPUs and ToolGen's data",
    "MODEL_NAME=ToolGen-Llama-3-8B": "needs answers to ToolGen's data",
    "CANDIDATE_MODEL=ToolGen-Llama-3-8B": "the same, and a judge",
    "bash scripts/toolgen.sh python -m huggingface_hub.cli.hf": "needs a network",
    "docker run": "needs docker",
    "#": "a comment, or a line for SLURM",
}


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return ["".join(line.removeprefix(indent) for line in block.splitlines(keepends=True)) for indent, block in found]


def commands(name: str) -> list[str]:
    """Each line of the shell blocks, without its comment."""
    lines = [line for block in blocks(name, "bash") for line in block.splitlines()]
    return [re.sub(r" {2,}#.*", "", line).strip() for line in lines if line.strip()]


def is_run(command: str) -> bool:
    return not any(command.startswith(start) for start in NOT_RUN)


def test_what_is_not_run_here_is_still_shown():
    shown = [command for page in (ENGLISH, CHINESE) for command in commands(page)]
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in shown)] == []


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my clones") / "toolgen"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    # What is being worked on, too.
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in changed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def shell(command: str, clone: Path) -> subprocess.CompletedProcess[str]:
    usual = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR", "OMP_NUM_THREADS") if name in os.environ}
    environment = {**usual, "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", "-c", command], cwd=clone, env=environment, text=True, capture_output=True, timeout=280, check=False
    )


@pytest.fixture(scope="module")
def runs(clone):
    """The commands shown that can run anywhere, run in a fresh clone in the order shown, up to one that fails."""
    runs = {}
    for command in filter(is_run, commands(ENGLISH)):
        runs[command] = shell(command, clone)
        if runs[command].returncode:
            break
    return runs


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_that_can_run_anywhere_works_in_a_fresh_clone_in_the_order_shown(runs):
    for command, run in runs.items():
        assert run.returncode == 0, (command, run.stdout[-2000:], run.stderr[-2000:])
    assert len(runs) >= 8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason=f"no trained checkpoint in {MODEL_DIR}")
def test_without_any_setting_the_main_script_runs_the_demo_and_solves_it(runs, clone):
    assert "running the bundled demo" in runs[f"bash {MAIN_SCRIPT}"].stderr
    assert score.main(["--answers", str(clone / "outputs/demo/demo_queries")]) == 0


@pytest.mark.slow
def test_the_python_that_asks_one_question_runs(clone):
    (clone / "ask.py").write_text(blocks(ENGLISH, "python")[0], encoding="utf-8")
    run = shell("bash scripts/toolgen.sh python ask.py", clone)
    assert run.returncode == 0, run.stderr
    assert "'arguments'" in run.stdout


def test_both_languages_show_the_same_commands_and_code():
    for language in ("bash", "python"):
        english = [re.sub(r" *#.*", "", block) for block in blocks(ENGLISH, language)]
        chinese = [re.sub(r" *#.*", "", block) for block in blocks(CHINESE, language)]
        assert english == chinese


def test_both_languages_have_the_same_parts():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in (ENGLISH, CHINESE)]
    headings, rows = ([len(re.findall(pattern, text, re.MULTILINE)) for text in texts] for pattern in (r"^#+ ", r"^\|"))
    assert headings[0] == headings[1]
    assert rows[0] == rows[1]


def predicted_times(name: str) -> list[list[str]]:
    """The rows of the table of times: GPUs, what they become, queries/min, time."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"^\| `(\d+x[^`]*)` \| (.*) \| ([\d,]+) \| (.*) \|$", text, re.MULTILINE)
    assert len(found) >= 6
    return [list(row) for row in found]


def test_the_times_that_the_readme_promises_are_the_doctors(capsys):
    for gpus, _, queries_per_min, time in predicted_times(ENGLISH):
        assert doctor(["--simulate", gpus, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        promised = float(queries_per_min.replace(",", ""))
        assert promised == pytest.approx(said["queries_per_min"], rel=0.02), gpus  # no digit matters, a change does
        assert f"which is {time.partition(';')[0]} for 765 queries" in said["reasons"], gpus
    numbers = [[(row[0], row[2]) for row in predicted_times(name)] for name in (ENGLISH, CHINESE)]
    assert numbers[0] == numbers[1]


def test_every_variable_of_a_run_is_explained():
    from evaluation.toolbench.launcher.run_settings import VARIABLES

    names = set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", " ".join(re.findall(r"^  ([A-Z_, ]+)", VARIABLES, re.MULTILINE))))
    assert len(names) > 15
    for page in (ENGLISH, CHINESE):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert {name for name in names if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, signs left out, blanks as hyphens."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
