"""report.html from what is on disk: complete folders, old ones, broken ones, and hostile texts."""

import base64
import json
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import DataError, EngineError, OutputError
from evaluation.toolbench.inference.records.failures import FailureLog
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.records.run_record import Counts, RunRecord, write_run_record
from evaluation.toolbench.inference.run_report.__main__ import main
from evaluation.toolbench.inference.run_report.html import build_page, json_for_html
from evaluation.toolbench.inference.run_report.report import report_data, write_report
from evaluation.toolbench.inference.run_report.set_figures import answer_folders, set_figures, total_of
from tests.helpers.run_report import GIVE_UP, Move, finish, replica_log, run_query, search, write_answer

HOSTILE = (
    '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"> <!-- {{script}} \u2028 ]]>'
)


@pytest.fixture
def folder(tmp_path):
    """Two replicas' answers, a give-up, a failure and an interrupted query."""
    with replica_log(tmp_path, 0) as log:
        run_query(tmp_path, log, "10", [Move(tokens=60), finish()])
        run_query(tmp_path, log, "9", [Move(code=5), finish(GIVE_UP)])
    with replica_log(tmp_path, 1) as log:
        with pytest.raises(EngineError), log.query("11", method="CoT@1", text="Too long?"):
            raise EngineError("the prompt is too long")
        log.write("query_start", query="12", method="CoT@1", text="Never mind")
    write_run_record(tmp_path, RunRecord("run-1", "finished", 0.0, configuration={"openai_key": "sk-12345"}))
    return tmp_path


def rows(data):
    return {row["key"]: row for row in data["rows"]}


def details(data):
    unpacked = [json.loads(zlib.decompress(base64.b64decode(block))) for block in data["blocks"]]
    return dict(zip((row["key"] for row in data["rows"]), chain.from_iterable(unpacked), strict=True))


def test_every_query_is_a_row(folder):
    data = report_data(folder)
    assert {key: row["outcome"] for key, row in rows(data).items()} == {
        "9": "gave_up",
        "10": "answered",
        "11": "failed",
        "12": "unfinished",
    }
    assert list(rows(data)) == ["9", "10", "11", "12"]  # by number
    answered = rows(data)["10"]
    assert (answered["steps"], answered["calls"], answered["errors"], answered["tokens"]) == (2, 1, 0, 100)
    assert (answered["seconds"], answered["generation_s"], answered["api_s"]) == (2.5, 2.0, 0.5)
    assert rows(data)["9"]["errors"] == 1
    assert rows(data)["11"]["query"] == "Too long?"
    assert data["summary"]["outcomes"] == {"gave_up": 1, "answered": 1, "failed": 1, "unfinished": 1}


def test_a_query_has_its_steps_with_their_times(folder):
    detail = details(report_data(folder))["10"]
    [trajectory] = detail["trajectories"]
    assert detail["final_answer"] == "Sunny, 21 degrees."
    assert trajectory["steps"][0] == {
        "thought": "I look up the forecast.",
        "action": "daily_forecast_for_sky_watch",
        "arguments": '{"city": "Paris"}',
        "observation": '{"error": "", "response": "sunny"}',
        "code": 0,
        "generation": {"at": 0.0, "seconds": 1.0, "tokens": 60, "prompt_tokens": 900},
        "call": {"at": 1.0, "seconds": 0.5},
    }


def test_a_folder_of_answers_alone_gives_a_report_without_times(tmp_path):
    write_answer(tmp_path, "7", search([Move(), finish()]), "Will it rain?")
    data = report_data(tmp_path)
    assert rows(data)["7"]["seconds"] is None
    assert rows(data)["7"]["tokens"] == 80  # as the answer file counts them
    assert (data["timelines"], data["run"], data["summary"]["has_events"]) == ([], None, False)


def test_a_failure_has_its_traceback(folder):
    failures = FailureLog(folder, "CoT@1")
    failures.record("11", EngineError("the prompt is too long"))
    failures.record("13", ValueError("odd"))
    data = report_data(folder)
    assert rows(data)["13"]["outcome"] == "failed"
    assert details(data)["13"]["error"] == "ValueError: odd"
    assert "EngineError: the prompt is too long" in details(data)["11"]["traceback"]


def test_a_failed_query_has_the_steps_that_it_came_to(folder):
    def moves():
        yield Move(action="lookup_for_atlas", code=6, tokens=60)
        raise EngineError("the prompt is too long")

    with replica_log(folder, 0) as log, pytest.raises(EngineError):
        run_query(folder, log, "15", moves())
    row = rows(report_data(folder))["15"]
    assert (row["outcome"], row["steps"], row["calls"], row["errors"], row["api_s"]) == ("failed", 1, 1, 1, 0.5)
    [trajectory] = details(report_data(folder))["15"]["trajectories"]
    assert trajectory["steps"] == [
        {
            "thought": "I look up the forecast.",
            "action": "lookup_for_atlas",
            "arguments": '{"city": "Paris"}',
            "observation": '{"error": "", "response": "sunny"}',
            "code": 6,
            "generation": {"at": 0.0, "seconds": 1.0, "tokens": 60, "prompt_tokens": 900},
            "call": {"at": 1.0, "seconds": 0.5},
        }
    ]


def test_a_query_that_failed_before_it_was_answered_is_answered(folder):
    with replica_log(folder, 0, run_id="run-2") as log:
        log.time += 1000
        run_query(folder, log, "11", [finish()])
    row = rows(report_data(folder))["11"]
    assert (row["outcome"], row["attempts"], row["seconds"]) == ("answered", 2, 1.0)


def test_answers_of_two_methods_are_told_apart(folder):
    with replica_log(folder, 0) as log:
        run_query(folder, log, "10", [finish()], method="DFS_woFilter_w2")
    data = report_data(folder)
    assert {"10_CoT@1", "10_DFS_woFilter_w2"} <= rows(data).keys()
    assert rows(data)["10_CoT@1"]["seconds"] == 2.5


def test_an_unreadable_answer_is_a_row_with_the_reason(folder):
    (folder / "14_CoT@1.json").write_text('{"win": tr')
    data = report_data(folder)
    assert rows(data)["14"]["outcome"] == "unreadable"
    assert "14_CoT@1.json is not a whole answer file" in details(data)["14"]["error"]


def test_no_secret_reaches_the_page(folder):
    assert "sk-12345" not in write_report(folder).read_text()


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes


def test_hostile_texts_do_not_become_markup(tmp_path):
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    for folder, text in ((plain, "text"), (hostile, HOSTILE)):
        folder.mkdir()
        move = Move(thought=text, action=text, arguments=text, observation=text)
        with replica_log(folder, gpus=[text]) as log:
            run_query(
                folder,
                log,
                "7",
                [move, finish(json.dumps({"return_type": "give_answer", "final_answer": text}))],
                query=text,
            )
            log.write("memory", gpu=text, used=1, total=2)
        FailureLog(folder, "CoT@1").record("8", ValueError(text))
        write_run_record(folder, RunRecord("run-1", text, 0.0, configuration={text: text}))
    pages = [Elements(write_report(folder).read_text()) for folder in (plain, hostile)]
    assert pages[0].tags == pages[1].tags
    data = report_data(hostile)
    assert rows(data)["7"]["query"] == HOSTILE
    assert details(data)["7"]["final_answer"] == HOSTILE


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_data_survives_its_way_into_the_page(data):
    text = json_for_html(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == data


def test_half_characters_do_not_stop_a_report(tmp_path):
    write_answer(tmp_path, "7", search([Move(observation="\ud83d broken"), finish()]), "\ude00?")
    assert "\ufffd" not in write_report(tmp_path).read_text(encoding="utf-8")
    assert details(report_data(tmp_path))["7"]["trajectories"][0]["steps"][0]["observation"] == "? broken"


def test_the_page_asks_for_nothing_outside_of_itself(folder):
    page = write_report(folder).read_text()
    elements = Elements(page)
    addresses = [value for name, value in elements.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert all(address.startswith("#") for address in addresses)
    assert not {"link", "iframe", "img", "object", "base"} & set(elements.tags)
    own = build_page({}, "empty")
    assert not re.search(
        r"https?:|//\w|url\(|@import|\bfetch\b|XMLHttpRequest|\.innerHTML|insertAdjacentHTML|document\.write|eval\(",
        own,
    )
    assert "default-src 'none'" in own


def test_the_command_prints_where_the_report_is(folder, capsys):
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    output = folder / "elsewhere.html"
    assert main([str(folder), "--output", str(output)]) == 0
    assert output.read_text().startswith("<!doctype html>")


def test_a_folder_of_answer_folders_is_a_table_with_a_row_for_each(tmp_path):
    for model, name in (("one", "G1_tool"), ("one", "G3_instruction"), ("two", "G1_tool")):
        folder = tmp_path / model / name
        folder.mkdir(parents=True)
        with replica_log(folder, 0) as log:
            run_query(folder, log, "10", [Move(tokens=60), finish()])
            run_query(folder, log, "9", [Move(code=5), finish(GIVE_UP)])
    FailureLog(tmp_path / "two/G1_tool", "CoT@1").record("7", EngineError("no room"))
    write_run_record(
        tmp_path / "two/G1_tool", RunRecord("r", "finished", 0, configuration={"method": "CoT@1"}, counts=Counts(5))
    )
    rows = {
        str(row.folder.relative_to(tmp_path)): row for each in answer_folders(tmp_path) for row in set_figures(each)
    }
    assert list(rows) == ["one/G1_tool", "one/G3_instruction", "two/G1_tool"]
    two = rows["two/G1_tool"]
    assert (two.queries, two.answered, two.gave_up, two.failed, two.left) == (5, 1, 1, 1, 2)
    assert (two.tokens, two.api_calls) == (rows["one/G1_tool"].tokens, 2)
    total = total_of(rows.values(), tmp_path)
    assert (total.queries, total.answered, total.tokens) == (9, 3, 3 * two.tokens)
    assert total.seconds == two.seconds  # they ran at the same time

    scores = tmp_path / "results/pass_rate/one_CoT@1"  # as `evaluate` leaves them beside the answers
    scores.mkdir(parents=True)
    (scores / "G1_tool_one_CoT@1.json").write_text("{}")
    assert len(answer_folders(tmp_path)) == 3
    page = write_report(tmp_path).read_text()
    for name in rows:
        assert f'<a href="{name}/report.html">{name}</a>' in page
        assert (tmp_path / name / "report.html").is_file()
    assert "<script" not in page
    other = write_report(tmp_path / "one", tmp_path / "all.html").read_text()
    assert '<a href="one/G1_tool/report.html">G1_tool</a>' in other


def test_a_report_of_nothing_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(DataError, match="nothing to report"):
        write_report(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(DataError, match="cannot read the answer folder"):
        write_report(tmp_path / "absent")


def test_a_report_that_cannot_be_written_is_an_output_error(folder):
    with pytest.raises(OutputError, match="cannot write"):
        write_report(folder, folder / "absent" / "report.html")


def test_help_answers_without_loading_torch():
    program = (
        "import runpy, sys; sys.argv = ['run_report', '--help']\n"
        "try: runpy.run_module('evaluation.toolbench.inference.run_report', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "ANSWER_FOLDER" in done.stdout


def test_a_run_has_the_rates_that_its_table_said_and_several_runs_those_of_all_their_time(folder):
    def rates():
        return report_data(folder)["summary"]["rates"]

    assert rates() == {"tokens_per_s": 36.0, "queries_per_min": 24.0}
    own = Rates(tokens_per_s=12.5, queries_per_min=7.5)
    write_run_record(folder, RunRecord("run-1", "finished", 0.0, rates=own))
    assert rates() == {"tokens_per_s": 12.5, "queries_per_min": 7.5}
    with replica_log(folder, 0, run_id="run-2") as log:
        run_query(folder, log, "13", [finish()])
    assert rates()["queries_per_min"] != 7.5


def test_a_run_in_which_everything_failed_has_no_queries_a_minute(tmp_path):
    with replica_log(tmp_path, 0) as log:
        for number in range(20):
            log.time += 0.1
            with pytest.raises(EngineError), log.query(str(number), method="CoT@1", text="Too long?"):
                raise EngineError("the prompt is too long")
    assert report_data(tmp_path)["summary"]["rates"]["queries_per_min"] == 0
