"""Unpacked over a ToolGen checkout, as README_multi_gpu.md says: the checkout's modules and its data go on working.

The checkout here is made up from what is known of ToolGen's layout: which modules there are, and which names they
import from each other. Files that this package replaces fail when they are imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.helpers.pipeline import ROOT, api_server, query
from tests.helpers.script import SHORT_RUN, ScriptWorld, answers, run_script
from tests.scripts.test_readme import blocks

pytestmark = pytest.mark.slow

INFERENCE = "evaluation/toolbench/inference"
REPLACED = [
    "qa_pipeline_multithread.py",
    "server.py",
    "LLM/toolgen.py",
    "LLM/toolgen_atomic.py",
    "Downstream_tasks/rapidapi_multithread.py",
    "Downstream_tasks/base_env.py",
    "Algorithms/single_chain.py",
    "Algorithms/DFS.py",
    "Algorithms/base_search.py",
    "Tree/Tree.py",
]
CHECKOUT = {
    "evaluation/toolbench/utils.py": "def process_system_message(system_message, functions): return system_message",
    "evaluation/utils/utils.py": "def seed_everything(seed): raise AssertionError('the pipeline has its own')",
    f"{INFERENCE}/utils.py": "def softmax_bias(answers, temperature=1): return answers\nclass SimpleChatIO: pass",
    f"{INFERENCE}/Prompts/rank_prompts.py": "LLM_PAIRWISE_RANK_USER_PROMPT = 'A or B?'",
    f"{INFERENCE}/LLM_rank/rank_candidate.py": (
        "from Tree.Tree import tree_node\n"
        "from Prompts.rank_prompts import LLM_PAIRWISE_RANK_USER_PROMPT\n"
        "def sum_based_rankn(llm, candidates): return tree_node"
    ),
    f"{INFERENCE}/callbacks/ServerEventCallback.py": "class ServerEventCallback: pass",
    f"{INFERENCE}/LLM/retriever.py": """
from evaluation.toolbench.utils import process_system_message

class ToolRetriever:
    def __init__(self, corpus_tsv_path="", model_path=""):
        self.corpus = open(corpus_tsv_path).read()

    def retrieving(self, query, top_k=5, excluded_tools={}):
        return [{"category": "Weather", "tool_name": "sky_watch", "api_name": "daily_forecast"}]
""",
    f"{INFERENCE}/LLM/tool_llama_model.py": """
from evaluation.toolbench.inference.utils import SimpleChatIO
from evaluation.toolbench.utils import process_system_message

class ToolLLaMA:
    def __init__(self, model_name_or_path, max_sequence_length):
        self.chatio = SimpleChatIO()

    def initialize(self): pass

    def change_messages(self, messages):
        self.messages = messages

    def parse(self, tools, process_id, **options):
        last = self.messages[-1]
        name, arguments = ("Finish", '{"return_type": "give_answer", "final_answer": "Sunny."}')
        if last["role"] != "tool":
            [name] = [name for name in tools if name != "Finish"]
            arguments = '{"city": "Paris"}'
        call = {"id": None, "type": "function", "function": {"name": name, "arguments": arguments}}
        return {"role": "assistant", "content": "Hm.", "function_call": None, "tool_calls": [call]}, 0, 7
""",
    # Read for its texts, never run.
    "OpenAgent/agents/toolgen/toolgen.py": "raise SystemExit('this must not be run')",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ScriptWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def checkout(world, tmp_path_factory):
    """A checkout with data, over which the README's command has been run."""
    folder = tmp_path_factory.mktemp("my tools") / "ToolGen checkout"
    broken = {f"{INFERENCE}/{name}": "raise AssertionError('not replaced')" for name in REPLACED}
    for name, text in {**CHECKOUT, **broken}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "requirements.txt").write_text("of ToolGen's own\n")
    (folder / ".gitignore").write_text("data/\n")
    shell("git init -q && git add . && git commit -qm 'as published'", folder)
    (folder / "data").symlink_to(world.data)
    [block] = [block for block in blocks("README_multi_gpu.md", "bash") if "git -C /path/to/ToolGen" in block]
    block = block.replace("/path/to/ToolGen", f'"{folder}"')
    shell("set -e\n" + block, ROOT)
    assert (folder / "requirements.txt").read_text() == "of ToolGen's own\n"
    return folder


def shell(commands, folder):
    author = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["bash", "-c", commands], cwd=folder, env={**os.environ, **author}, check=True)


def test_the_requirements_files_that_the_readme_names_are_there(checkout):
    text = (checkout / "README_multi_gpu.md").read_text(encoding="utf-8")
    named = set(re.findall(r"-r (requirements[\w-]*\.txt)", text))
    assert "requirements-8bit.txt" in named
    assert {name for name in named if not (checkout / name).is_file()} == set()


def test_switching_back_leaves_the_checkout_as_it_was(checkout):
    shell("git switch -q -", checkout)
    assert (checkout / f"{INFERENCE}/server.py").read_text() == "raise AssertionError('not replaced')"
    assert not (checkout / "test_multi_gpu.py").exists()
    shell("git switch -q -", checkout)
    assert (checkout / "test_multi_gpu.py").exists()


def python(checkout, *arguments, **variables):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": "./", "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=300
    )


def test_d24_the_script_runs_on_the_checkouts_data_and_answers_into_the_models_own_folder(world, checkout, tmp_path):
    run = run_script({"MODEL_PATH": str(world.model)}, *SHORT_RUN, root=checkout, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    [folder] = (checkout / "data" / "answer").iterdir()
    assert folder.name == f"{world.model.parent.name}-model"  # what the model is called, and where it lies
    assert len(answers(folder / "G3_instruction")) == 9
    assert list(tmp_path.iterdir()) == []


def test_the_checkouts_modules_find_what_they_import(checkout):
    code = f"""
import sys; sys.path.insert(0, {INFERENCE!r})
from LLM_rank.rank_candidate import sum_based_rankn
from callbacks.ServerEventCallback import ServerEventCallback
from Algorithms.base_search import base_search_method
from Downstream_tasks.base_env import base_env
from evaluation.utils.utils import seed_everything
from evaluation.toolbench.inference.Downstream_tasks.rapidapi_multithread import pipeline_runner
from evaluation.toolbench.inference.LLM.toolgen import ToolGen
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.server import get_rapidapi_response
import Tree.Tree
assert sum_based_rankn(None, []) is Tree.Tree.tree_node
modules = [sys.modules[name] for name in ("Tree.Tree", "LLM_rank.rank_candidate", pipeline_runner.__module__)]
assert all(module.__file__.startswith({str(checkout)!r}) for module in modules)
"""
    run = python(checkout, "-c", code)
    assert run.returncode == 0, run.stderr


def test_toolgens_gitignore_hides_no_file_of_the_demo(checkout, tmp_path):
    """A fork that is committed and cloned still has the demo: ToolGen's .gitignore has `data/`, for any depth."""
    git = ["git", f"--git-dir={tmp_path}/git", f"--work-tree={checkout}"]
    (tmp_path / "exclude").write_text("data/\n", encoding="utf-8")
    subprocess.run([*git, "init", "-q"], check=True)
    demo = "evaluation/toolbench/demo"
    listing = [*git, "ls-files", "-z", "--others", f"--exclude-from={tmp_path}/exclude", "--", demo]
    found = subprocess.run(listing, cwd=checkout, check=True, capture_output=True, text=True).stdout.split("\0")
    files = [path for path in (checkout / demo).rglob("*") if path.is_file()]
    assert {path for path in found if path} == {path.relative_to(checkout).as_posix() for path in files}


def test_a_model_and_a_retriever_of_the_checkout_answer_a_query(world, checkout, tmp_path):
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("docid\tdocument_content\n")
    output = tmp_path / "answers"
    flags = world.flags(
        output,
        backbone_model="toolllama",
        template=None,
        indexing=None,
        function_provider="retriever",
        retrieval_model_path=str(tmp_path),
        corpus_tsv_path=str(corpus),
        input_query_file=world.write_queries(tmp_path / "queries.json", [query(0)]),
    )
    with api_server(tmp_path) as service_url:
        run = python(checkout, f"{INFERENCE}/qa_pipeline_multithread.py", *flags, SERVICE_URL=service_url)
    assert run.returncode == 0, run.stderr
    record = json.loads((output / "0_CoT@1.json").read_text())
    assert record["win"]
    assert list(record["answer_generation"]["function"]) == ["daily_forecast_for_sky_watch", "Finish"]
