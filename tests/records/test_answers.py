"""Answer files are absent or whole, failures.json is true, and nobody else's files are touched."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import stat
import string
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.answers import AnswerFolder, outcome_of
from evaluation.toolbench.inference.records.failures import FailureLog
from evaluation.toolbench.inference.records.whole_files import remove_abandoned, write_whole

ROOT = Path(__file__).resolve().parents[2]


def answer(text: str = "sunny", *, valid: bool = True) -> dict:
    arguments = json.dumps({"return_type": "give_answer", "final_answer": text}) if valid else ""
    generation = {"valid_data": valid, "final_answer": arguments, "query_count": 3, "total_tokens": 40, "query": "?"}
    return {"win": valid, "try_count": 1, "trys": [], "answer_generation": generation}


def failed_ids(log: FailureLog) -> list[str]:
    return [entry["id"] for entry in json.loads(log.path.read_text(encoding="utf-8"))]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def answers(tmp_path):
    folder = AnswerFolder(tmp_path / "new" / "answers", "CoT@1")
    folder.prepare()
    return folder


def run_writer(code: str, *arguments: object) -> subprocess.Popen:
    """A process that has `AnswerFolder` and `answer`."""
    prelude = "import sys; from pathlib import Path; from tests.records.test_answers import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE
    )


def test_an_answer_is_read_back_as_it_was_written(answers):
    answers.write(7, answer("é\ud83d"))  # half a surrogate pair, as models produce
    assert answers.outcome(7) == answers.outcome("7")
    outcome = answers.outcome(7)
    assert (outcome.kind, outcome.num_steps, outcome.num_tokens) == ("answered", 3, 40)
    assert names(answers.folder) == {"7_CoT@1.json"}
    text = answers.path_of(7).read_text(encoding="ascii")
    assert json.loads(text) == answer("é\ud83d")
    assert text.startswith('{\n  "win": true,')


def test_a_query_that_gave_up_is_done_but_not_answered(answers):
    node = {"observation_code": 4}
    answers.write(1, {**answer(valid=False), "trys": [{"chain": [{"observation_code": 0}, node], "win": False}]})
    answers.write(2, {**answer(valid=False), "tree": {"tree": {"children": [{"children": [node]}]}}})
    assert [answers.outcome(query_id).kind for query_id in (1, 2)] == ["gave_up", "gave_up"]


def test_a_query_that_ran_out_of_steps_neither_answered_nor_gave_up(answers):
    answers.write(1, answer(valid=False))
    assert answers.outcome(1).kind == "no_answer"


@pytest.mark.parametrize(
    "content",
    ["", "{", json.dumps(answer())[:-5], "[]", "null", "{}", '{"answer_generation": {}}', "[" * 100_000, "\x00"],
)
def test_what_is_no_complete_answer_is_still_to_do(answers, content):
    answers.path_of(1).write_text(content, encoding="utf-8")
    assert answers.outcome(1) is None
    answers.write(1, answer())
    assert answers.outcome(1) is not None


def test_a_missing_answer_is_still_to_do(answers):
    assert answers.outcome(1) is None


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["answer_generation", "trys", "x"]), inner),
    )
)
def test_no_json_value_is_too_odd_to_be_judged(value):
    outcome_of(value)


@settings(max_examples=30)
@given(cut=st.floats(0, 1))
def test_no_beginning_of_an_answer_counts_as_an_answer(cut):
    text = json.dumps(answer("a long day " * 20), indent=2)
    beginning = text[: int(cut * (len(text) - 1))]
    with pytest.raises(ValueError):
        json.loads(beginning)


@pytest.mark.parametrize("seed", range(4))
def test_a_process_killed_in_the_middle_of_writing_leaves_no_partial_answer(answers, seed):
    writer = run_writer(
        """
        answers = AnswerFolder(sys.argv[1], "CoT@1")
        print("ready", flush=True)
        for i in range(10**6):
            answers.write(i % 10, answer("x" * 300_000))
        """,
        answers.folder,
    )
    writer.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.005, 0.08))
    writer.kill()
    writer.communicate()
    for path in answers.folder.glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8")) == answer("x" * 300_000)
    answers.prepare()
    assert all(path.suffix == ".json" for path in answers.folder.iterdir())


def test_temporaries_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    writer = run_writer(
        """
        from evaluation.toolbench.inference.records import whole_files
        descriptor, part = whole_files._open_part(Path(sys.argv[1]) / "1_CoT@1.json")
        print(part.name, flush=True)
        time.sleep(60)
        """,
        tmp_path,
    )
    part = writer.stdout.readline().decode().strip()
    (tmp_path / ".notes.part").write_text("a user's own")
    assert remove_abandoned(tmp_path) == 0
    assert names(tmp_path) == {part, ".notes.part"}
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert remove_abandoned(tmp_path) == 1
    assert names(tmp_path) == {".notes.part"}


def test_two_processes_may_write_into_one_folder(answers):
    code = """
        answers, failures = AnswerFolder(sys.argv[1], "CoT@1"), FailureLog(sys.argv[1], "CoT@1")
        for i in range(40):
            answers.prepare()
            answers.write(f"{sys.argv[2]}{i}", answer())
            failures.record(f"{sys.argv[2]}{i}", ValueError("no"))
    """
    writers = [run_writer(code, answers.folder, name) for name in "ab"]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    ids = {f"{name}{i}" for name in "ab" for i in range(40)}
    assert names(answers.folder) == {f"{query_id}_CoT@1.json" for query_id in ids} | {"failures.json"}
    assert set(failed_ids(FailureLog(answers.folder, "CoT@1"))) == ids


def test_a_full_disk_is_one_line_and_what_was_written_stays(answers):
    """The limit on the size of files stands in for the disk: the same system call fails half-way."""
    answers.write(1, answer())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*2_CoT@1\.json.*start again"):
            answers.write(2, answer("x" * 100_000))
        with pytest.raises(OutputError):
            answers.write(1, answer("x" * 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(answers.folder) == {"1_CoT@1.json"}
    assert answers.outcome(1) is not None


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_whole(pipe, "for a pipe that nobody reads")  # does not wait for a reader
    assert pipe.read_text() == "for a pipe that nobody reads"
    descriptor = os.open(tmp_path / "redirected", os.O_WRONLY | os.O_CREAT)
    link = tmp_path / "stdout"
    link.symlink_to(f"/proc/self/fd/{descriptor}")
    write_whole(link, "text")
    os.close(descriptor)
    assert link.is_symlink()
    assert (tmp_path / "redirected").read_text() == "text"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/answers")):
        with pytest.raises(OutputError, match="cannot write") as caught:
            AnswerFolder(folder, "CoT@1").prepare()
        assert "\n" not in str(caught.value)


def test_too_many_open_files_are_told_with_the_limit_to_raise(tmp_path):
    folder = AnswerFolder(tmp_path, "CoT@1")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"Too many open files.*ulimit -n") as caught:
            folder.write("1", {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "make room" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        AnswerFolder(tmp_path, "CoT@1").prepare()


def test_removing_takes_only_the_named_queries_of_the_method(answers):
    for query_id in ("1", "2", "11"):
        answers.write(query_id, answer())
    AnswerFolder(answers.folder, "DFS_w2").write("1", answer())
    (answers.folder / "notes.json").write_text("{}")
    assert answers.remove(["1", "3"]) == 1
    assert names(answers.folder) == {"2_CoT@1.json", "11_CoT@1.json", "1_DFS_w2.json", "notes.json"}


def test_failures_say_what_happened_and_go_when_the_query_succeeds(answers):
    log = FailureLog(answers.folder, "CoT@1")
    try:
        raise ValueError("the reason")
    except ValueError as error:
        log.record("5", error)
    log.record("6", RuntimeError("other"))
    log.record("6", RuntimeError("another"))
    first, second = json.loads(log.path.read_text(encoding="utf-8"))
    assert (first["id"], first["method"], first["error"], first["message"]) == (
        "5",
        "CoT@1",
        "ValueError",
        "the reason",
    )
    assert 'raise ValueError("the reason")' in first["traceback"]
    assert second["message"] == "another"
    log.forget(["5"])
    assert failed_ids(log) == ["6"]
    log.forget(["6", "7"])
    assert names(answers.folder) == set()


def test_failures_of_another_method_stay(answers):
    mine, other = FailureLog(answers.folder, "CoT@1"), FailureLog(answers.folder, "DFS_w2")
    mine.record("1", ValueError())
    other.record("1", ValueError())
    mine.forget(["1"])
    [left] = json.loads(mine.path.read_text(encoding="utf-8"))
    assert (left["id"], left["method"], mine.path) == ("1", "DFS_w2", other.path)


@pytest.mark.parametrize("content", ["", "{", "{}", '[1, {"id": "2"}]'])
def test_a_broken_failures_file_is_written_anew(answers, content):
    log = FailureLog(answers.folder, "CoT@1")
    log.path.write_text(content, encoding="utf-8")
    log.record("1", ValueError())
    assert failed_ids(log) == ["1"]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.text(string.printable, max_size=50)), max_size=8))
def test_the_last_text_written_is_the_one_there(tmp_path_factory, writes):
    folder = tmp_path_factory.mktemp("whole")
    last: dict[str, str] = {}
    for name, text in writes:
        write_whole(folder / name, text)
        last[name] = text
    assert {path.name: path.read_bytes().decode() for path in folder.iterdir()} == last
