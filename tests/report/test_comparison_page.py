"""Two runs side by side in a real browser: filters, a query that is sent to a colleague, tables to take along."""

import csv
import io
import json
from pathlib import Path

import pytest

from benchmarks import report_page
from evaluation.toolbench.inference.run_report.comparison import write_comparison
from tests.helpers.browser import CHROMIUM
from tests.helpers.page_words import left_in_english
from tests.helpers.run_report import GIVE_UP, Move, finish, replica_log, run_query
from tests.report.test_comparison import verdict, write_log, write_statuses

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (chromium or google-chrome), found none")

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
SOLVED = {"old": {0, 1, 2, 3, 4}, "new": {0, 1, 2, 5, 6, 7}}  # of ten queries in G1


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """Runs `old`, `new` and `third` over G1 (judged in the first two) and G2; query 4 gave up in `new`."""
    above = tmp_path_factory.mktemp("data")
    runs = [above / "answer" / name for name in ("old", "new", "third")]
    for run in runs:
        for test_set in ("G1", "G2"):
            (run / test_set).mkdir(parents=True)
            with replica_log(run / test_set) as log:
                for number in range(10):
                    gives_up = run.name == "new" and number == 4
                    last = finish(GIVE_UP) if gives_up else finish()
                    moves = [Move(), Move(action=f"{run.name}_for_tool" if number % 2 else "rain_for_sky"), last]
                    run_query(run / test_set, log, str(number), moves, query=f"Question {number}?")
    with replica_log(runs[0] / "G2", 1) as log:
        odd = Move(thought=HOSTILE, action=HOSTILE, arguments=HOSTILE, observation=HOSTILE)
        run_query(runs[0] / "G2", log, "é% 1", [odd, finish()], query=HOSTILE)
    for name, solved in SOLVED.items():
        place = above / "results" / "pass_rate" / name
        words = {str(i): ["Solved" if i in solved else "Unsolved"] * 3 for i in range(10)}
        write_statuses(place, f"G1_{name}", words)
        reasons = [verdict("1", i, words["1"][i], f"{name}: reason {i} {HOSTILE}") for i in range(3)]
        write_log(place, f"G1_{name}", reasons)
    for path in runs[1].rglob("events-*.jsonl"):  # every call of `new` was simulated
        path.write_text(path.read_text().replace('"event":"call"', '"event":"call","cache":"simulated"'))
    return write_comparison(runs, above / "page.html").as_uri()


@pytest.fixture
def page(browser, comparison):
    """The overview, just opened and watched."""
    with browser.watched(comparison):
        yield browser


def text_of(page, selector):
    return page.js(f"document.querySelector({json.dumps(selector)}).innerText")


def ids(page):
    return page.js("[...document.querySelectorAll('#rows td.id')].map((cell) => cell.textContent)")


def choose(page, value):
    page.js(f"document.querySelector('#outcome-filter [data-value={value}]').click()")


def go(page, key):
    page.js(f"void (location.hash = encodeURIComponent({json.dumps(key)}))")
    page.wait_for("!document.getElementById('query').hidden")


def measure(page, name):
    rows = page.js("[...document.querySelectorAll('#measures tr')].map((row) => row.innerText.split('\\t'))")
    return next(row[1:] for row in rows if row[0].strip() == name)


def test_numbers_have_their_tests(page):
    solved = measure(page, "Solved")
    assert [part.strip() for part in solved[:3]] == ["50.0%", "60.0%", "+10.0 pp"]
    assert solved[-1].strip() == "only A 2 · only B 3 · p = 1"
    assert "20 common queries" in text_of(page, "#test-notes")
    assert "10 of them are judged in both" in text_of(page, "#test-notes")
    assert "no test: 1." in text_of(page, "#test-notes")
    assert "3 pairs of runs" in text_of(page, "#test-notes")
    assert "Of the API calls 0.0% and 100.0% were answered by a simulator" in text_of(page, "#test-notes")
    assert "100.0% of API calls simulated" in text_of(page, "#runs")
    assert text_of(page, "#sets-rows tr").split("\t")[:3] == ["G1", "10", "50.0% · 60.0%"]


def test_who_solved_what_can_be_filtered(page):
    choose(page, "left")
    assert ids(page) == ["G1/3", "G1/4"]
    assert text_of(page, "#shown") == "2 of 21"
    choose(page, "right")
    assert ids(page) == ["G1/5", "G1/6", "G1/7"]
    choose(page, "left_alone")
    assert ids(page) == ["G2/é% 1"]
    page.js("document.querySelector('#by [data-value=answer]').click()")
    choose(page, "left")
    assert ids(page) == ["G1/4", "G2/4"]


def test_focus_stays_on_the_filter_that_was_pressed(page):
    page.js("document.querySelector('#outcome-filter [data-value=both]').focus()")
    page.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r")
    page.wait_for("document.querySelectorAll('#rows tr').length === 3")
    assert page.js("document.activeElement.dataset.value") == "both"
    page.js("document.querySelector('#set-choice [data-set=G1]').focus()")
    page.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r")
    assert page.js("document.activeElement.dataset.set") == "G1"


def test_what_was_chosen_is_in_the_address(page):
    page.js("document.querySelector('#set-choice [data-set=G1]').click()")
    choose(page, "right")
    address = page.js("location.href")
    page.open(address)
    assert ids(page) == ["G1/5", "G1/6", "G1/7"]
    assert page.js("document.querySelector('#set-choice [aria-pressed=true]').textContent") == "G1"


def test_a_query_has_both_trajectories_and_where_they_part(page):
    go(page, "G1/3")
    assert "They part at step 2: other tool." in text_of(page, "#query .meta")
    columns = page.js("[...document.querySelectorAll('.column')].map((column) => column.innerText)")
    assert ["old_for_tool" in columns[0], "new_for_tool" in columns[1]] == [True, True]
    assert page.js("[...document.querySelectorAll('.is-parting')].map((step) => step.id)") == ["step-A2", "step-B2"]
    page.js("document.querySelector('#query .meta a').click()")
    page.wait_for("document.querySelector('#step-A2.is-target')")
    go(page, "G1/2")
    page.wait_for("document.querySelector('.question').innerText === 'Question 2?'")
    assert "same steps" in text_of(page, "#query .meta")


def test_a_link_leads_a_colleague_to_the_query_and_the_pair(page, comparison):
    page.open(f"{comparison}?left=B&right=C#G1%2F3/C2")
    assert text_of(page, ".question") == "Question 3?"
    assert page.js("[...document.querySelectorAll('.column h2')].map((head) => head.innerText)") == ["B new", "C third"]
    assert page.js("document.querySelector('#step-C2').classList.contains('is-target')")
    assert page.js("document.getElementById('left-run').value") == "1"


def test_verdicts_and_reasons_are_shown_as_text(page):
    go(page, "G1/1")
    verdicts = page.js("[...document.querySelectorAll('.verdicts')].map((each) => each.innerText)")
    assert [f"old: reason {i} {HOSTILE}" in verdicts[0] for i in range(3)] == [True] * 3
    assert "check_answer_status · Solved · judge-70b" in verdicts[1]
    go(page, "G2/é% 1")
    page.wait_for("document.querySelector('.question').innerText.includes('hacked')")
    assert text_of(page, ".column:last-child .muted") == "not in this run"
    assert page.js("document.querySelectorAll('main img, main script').length") == 0
    assert page.js("typeof window.hacked") == "undefined"


def test_another_pair_turns_the_numbers_round(page):
    def exchange(side, run):
        page.js(
            f"(() => {{ const select = document.getElementById('{side}-run'); select.value = {run};"
            "select.dispatchEvent(new Event('change')); })()"
        )

    before = measure(page, "Solved")
    exchange("left", 1)
    after = measure(page, "Solved")
    assert page.js("document.getElementById('right-run').value") == "0"
    assert [part.strip() for part in after[:3]] == ["60.0%", "50.0%", "−10.0 pp"]
    low, high = before[3].split(" … ")
    assert after[3].strip() == f"{turned(high)} … {turned(low)}"
    assert after[-1].strip() == "only B 3 · only A 2 · p = 1"
    exchange("right", 2)
    assert "Solved" not in page.js("document.getElementById('measures').innerText")
    assert page.js("document.getElementById('by').hidden")


def turned(number):
    return number.strip().translate(str.maketrans("+−", "−+"))


def test_what_is_filtered_is_saved_as_csv(page, tmp_path):
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    choose(page, "left")
    page.js("document.getElementById('export').click()")
    saved = wait_for_file(page, tmp_path)
    lines = list(csv.DictReader(io.StringIO(saved)))
    assert [line["id"] for line in lines] == ["3", "4"]
    assert lines[0]["parted_at"] == "2"
    assert (lines[0]["A_status"], lines[0]["B_status"], lines[0]["B_score"]) == ("Solved", "Unsolved", "0")
    assert lines[0]["A_tools"] == "daily_forecast_for_sky_watch old_for_tool"
    assert (lines[1]["group"], lines[1]["B_outcome"], lines[1]["B_run"]) == ("left", "gave_up", "new")


def wait_for_file(page, folder):
    while not (found := list(folder.glob("*.csv"))):
        page.js("new Promise((done) => setTimeout(done, 50))")
    return found[0].read_text(encoding="utf-8-sig")


def test_search_finds_what_only_one_run_called(page):
    page.js("search.value = 'new_for_tool', table.update()")
    assert len(ids(page)) == 10
    page.js("search.value = 'sunny 21', deep.checked = true, table.update()")
    page.wait_for("document.querySelectorAll('#rows tr').length > 10")


def test_it_speaks_chinese(page):
    page.js("document.getElementById('language').click()")
    assert text_of(page, "#differences-heading") == "差异"
    assert "解决" in text_of(page, "#measures th")
    go(page, "G1/3")
    assert "在第 2 步分叉：工具不同。" in text_of(page, "#query .meta")
    page.js("document.getElementById('language').click()")
    page.wait_for("document.querySelector('#query .meta').innerText.includes('part at step 2')")


def test_every_word_of_the_page_has_its_chinese(page):
    words = {"Solved", "Unsure", "Unsolved", "Undecided", "same", "All sets"}
    words |= set(page.js("MEASURES.map(([, label]) => label)"))
    words |= set(page.js("[...document.querySelectorAll('[data-t]')].map((element) => element.dataset.t)"))
    assert page.js(f"{json.dumps(sorted(words))}.filter((word) => !CHINESE[word])") == []


def test_on_a_phone_nothing_is_wider(page, comparison):
    page.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    try:
        for address in ("", "#G1%2F1", "#G2%2F%C3%A9%25%201"):
            page.open(comparison + address)
            assert page.js("document.documentElement.scrollWidth") <= 390
            assert (
                page.js("Math.max(...[...document.querySelectorAll('.table-frame')].map((e) => e.scrollWidth))") <= 390
            )
    finally:
        page.send("Emulation.clearDeviceMetricsOverride")


def test_the_benchmark_measures_two_runs(tmp_path, capsys):
    data = Path(__file__).resolve().parents[3] / "shared" / "real_data"
    if not data.is_dir():
        pytest.skip("needs ../shared/real_data beside the checkout, found none")
    options = ["--data_dir", data, "--queries", 20, "--repeats", 1, "--methods", "CoT@1", "--compare", 2]
    assert report_page.main([str(option) for option in [*options, "--keep", tmp_path]]) == 0
    [result] = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert (result["queries"], result["runs"]) == (20, 2)
    assert min(result[key] for key in ("page_mb", "load_s", "open_longest_query_s", "first_deep_search_s")) > 0


@pytest.mark.parametrize("address", ["", "#G1%2F4"])
def test_in_chinese_only_what_the_runs_said_is_in_english(page, comparison, address):
    page.open(f"{comparison}?lang=zh{address}")
    assert left_in_english(page) == set()
