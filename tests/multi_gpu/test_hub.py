"""Models of the Hub: one short question, then the cache; and downloads of what is needed."""

import pytest

from tests.helpers.checkpoint import save_tiny_llama
from tests.helpers.fake_hub import Hub, fill_cache, hub_without_answers, in_another_process, running

pytestmark = pytest.mark.slow  # every question is asked in a process of its own

NAME = "someone/toolgen-tiny"
IMPORTS = {
    "snapshot_of": "from evaluation.toolbench.inference.multi_gpu.hub import snapshot_of",
    "load_model": "from evaluation.toolbench.inference.multi_gpu.loading import load_model",
}


def code(what: str) -> str:
    return f"""
import logging, sys, time
logging.basicConfig(format="%(levelname)s: %(message)s")
from evaluation.toolbench.inference.errors import ToolGenError
{IMPORTS[what.partition("(")[0]]}
started = time.monotonic()
try:
    print({what})
except ToolGenError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
print(time.monotonic() - started)
"""


FIND = code(f"snapshot_of({NAME!r}, weights=True)")
LOAD = code(f"load_model({NAME!r}, device='cpu').dtype")

LOAD_EACH = f"""
{IMPORTS["load_model"]}
from evaluation.toolbench.inference.errors import ToolGenError
for name in {{names}}:
    try:
        load_model(name, device="cpu")
    except ToolGenError as error:
        print(f"{{{{type(error).__name__}}}}: {{{{error}}}}")
"""


@pytest.fixture
def source(tmp_path):
    return save_tiny_llama(tmp_path / "source", max_shard_size="20KB")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "hf"


def load(home, **variables):
    return noted(in_another_process(LOAD, home, **variables))


def find(home, **variables):
    """Quicker than `load`: torch is not imported."""
    return noted(in_another_process(FIND, home, **variables))


def noted(done):
    done.lines = [line for line in done.stderr.splitlines() if "toolgen-tiny" in line]
    return done


def test_a_hub_that_does_not_answer_costs_two_seconds_and_one_line(home, source):
    snapshot = fill_cache(home, NAME, source)
    with hub_without_answers() as url:
        done = find(home, HF_ENDPOINT=url)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 60  # its client alone: minutes
    [line] = done.lines
    assert line == (f"WARNING: the Hub at {url} does not answer within 2 s: {NAME} is taken from the cache, {snapshot}")


def test_replicas_do_not_ask_again(home, source):
    snapshot = fill_cache(home, NAME, source)
    child = f"import subprocess, sys\n{FIND}\nsys.exit(subprocess.run([sys.executable, '-c', {FIND!r}]).returncode)"
    with hub_without_answers() as url:
        done = in_another_process(child, home, HF_ENDPOINT=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(snapshot)) == 2
    assert done.stderr.count("does not answer") == 1


def test_offline_means_no_question_and_no_line(home, source):
    fill_cache(home, NAME, source)
    done = find(home, HF_ENDPOINT="http://127.0.0.1:1", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.lines) == (0, []), done.stderr


def test_a_snapshot_that_lacks_a_file_names_it(home, source):
    lacking = {"someone/one": sorted(source.glob("*.safetensors"))[0].name, "someone/other": "config.json"}
    for name, file in lacking.items():
        fill_cache(home, name, source, without=(file,))
    done = in_another_process(LOAD_EACH.format(names=[*lacking]), home, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    for line, file in zip(done.stdout.splitlines(), lacking.values(), strict=True):
        assert line.startswith("DataError: ")
        assert file in line


def test_a_model_that_is_nowhere_is_one_line_with_the_reason(home):
    with hub_without_answers() as url:
        done = find(home, HF_ENDPOINT=url)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"DataError: {NAME} is neither a folder here nor a model in the cache {home}/hub")
    assert "does not answer within 2 s" in last


def test_a_proxy_that_cannot_be_used_is_named_and_the_cache_serves(home, source):
    fill_cache(home, NAME, source)
    done = find(home, HF_ENDPOINT="http://hub.example", ALL_PROXY="socks5://127.0.0.1:1080")
    assert done.returncode == 0, done.stderr
    assert "ALL_PROXY=socks5://127.0.0.1:1080 is a SOCKS proxy" in done.lines[0]


def test_what_is_missing_is_downloaded_without_other_forms_of_the_weights(home, source):
    (source / "pytorch_model.bin").write_bytes(b"the same again")
    with running(Hub(NAME, source)) as hub:
        done = load(home, HF_ENDPOINT=hub.url)
        assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "torch.float32"
    assert not any(path.endswith("pytorch_model.bin") for path in hub.asked)
    again = find(home, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr


def test_a_hub_that_refuses_is_quoted_and_the_cache_serves(home, source):
    fill_cache(home, NAME, source)
    with running(Hub(NAME, source)) as hub:
        hub.status = 401
        done = find(home, HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert "gives no files (" in done.lines[0]
