"""The report in a real browser: what a researcher sees, clicks and searches."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import report_page
from evaluation.toolbench.inference.records.run_record import (
    Counts,
    FailureRecord,
    GpuRecord,
    RunRecord,
    write_run_record,
)
from evaluation.toolbench.inference.run_report import html
from evaluation.toolbench.inference.run_report.report import write_report
from evaluation.toolbench.retrieval import report as retrieval_report
from tests.helpers.browser import CHROMIUM
from tests.helpers.page_words import left_in_english
from tests.helpers.run_report import GIVE_UP, Move, finish, replica_log, run_query, search, write_answer

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (chromium or google-chrome), found none")

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
CUT_OFF = json.dumps(
    {"error": "", "response": json.dumps([{"city": "Paris", "sky": "sunny " * 40}, {"city": "Rome"}])}
)[:150]


def until_it_breaks():
    yield Move(action="last_deed_for_log")
    raise ValueError("broken")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """150 answers of two replicas, a give-up, a failure, and one query full of markup."""
    folder = tmp_path_factory.mktemp("report")
    with replica_log(folder, 0, gpus=["GPU-a"], num_conversations=2) as log:
        for number in range(150):
            moves = [Move(observation="Snow in Oslo" if number == 77 else "{}", call_s=number / 100), finish()]
            run_query(folder, log, str(number), moves, query=f"Question {number}?")
            log.write("memory", gpu="GPU-a", used=40 * 2**30, total=80 * 2**30)
    with replica_log(folder, 1, num_conversations=2) as log:
        run_query(folder, log, "200", [Move(observation=CUT_OFF + "..."), finish(GIVE_UP)])
        with pytest.raises(ValueError):
            run_query(folder, log, "201", until_it_breaks(), query="Broken?")
        text = json.dumps({"return_type": "give_answer", "final_answer": HOSTILE})
        hostile = Move(thought=HOSTILE, action=HOSTILE, arguments=HOSTILE, observation=HOSTILE)
        run_query(folder, log, "202 é%", [hostile, finish(text)], query=HOSTILE)
    gpu, failure = GpuRecord("GPU-a", "H100", 80 * 2**30, 0), FailureRecord("201", "ValueError", "broken")
    write_run_record(folder, RunRecord("run-1", "finished", 0.0, gpus=[gpu], failures=[failure]))
    return write_report(folder).as_uri()


@pytest.fixture
def page(browser, report):
    """The overview, just opened and watched."""
    with browser.watched(report):
        yield browser


def ids(page):
    return page.js("[...document.querySelectorAll('#rows td.id')].map((cell) => cell.textContent)")


def go(page, address):
    page.js(f"void (location.hash = {json.dumps(address)})")
    page.wait_for("!document.getElementById('query').hidden")


def press(page, selector, text):
    page.js(f"[...document.querySelectorAll({selector!r})].find((each) => each.textContent === {text!r}).click()")


def text_of(page, selector):
    return page.js(f"document.querySelector({json.dumps(selector)}).innerText")


def test_rows_are_drawn_as_far_as_the_reader_scrolls(page):
    first = len(ids(page))
    assert 0 < first < 153
    page.js("scrollTo(0, document.body.scrollHeight)")
    page.wait_for(f"document.querySelectorAll('#rows tr').length > {first}")
    assert text_of(page, "#shown") == "153"


def test_search_finds_ids_queries_and_tools_at_once_and_everything_on_demand(page):
    def find(words, deep):
        page.js(f"search.value = {json.dumps(words)}, deep.checked = {json.dumps(deep)}, table.update()")
        return ids(page)

    assert find("question 77?", deep=False) == ["77"]
    assert find("snow oslo", deep=False) == []
    assert text_of(page, "#rows") == "No query matches."
    assert find("snow OSLO", deep=True) == ["77"]


def test_typing_in_the_search_box_filters(page):
    page.js("void search.focus()")
    page.send("Input.insertText", text="broken")
    page.wait_for("document.querySelectorAll('#rows tr').length === 1")
    assert ids(page) == ["201"]


def test_a_click_filters_by_outcome_and_sorts(page):
    press(page, "#outcome-filter button", "Gave up1")
    page.wait_for("document.querySelectorAll('#rows tr').length === 1")
    assert ids(page) == ["200"]
    page.js("document.querySelector('#outcome-filter button').click()")
    page.wait_for("document.querySelectorAll('#rows tr').length > 1")
    press(page, "#columns button", "Time")
    page.wait_for("document.querySelector('#rows td.id')?.textContent === '149'")
    assert page.js("document.querySelector('#columns th[aria-sort]').textContent") == "Time"


def test_an_address_leads_to_a_query_and_back_to_where_the_reader_was(page):
    page.js("scrollTo(0, 500)")
    go(page, "77")
    shown = text_of(page, "#query")
    assert "Question 77?" in shown
    assert text_of(page, ".step:last-child .step-cost") == "1.0 s · 40 tokens"  # Finish is no call of an API
    for part in (
        "Answered",
        "Sunny, 21 degrees.",
        "daily_forecast_for_sky_watch",
        "city",
        "Snow in Oslo",
        "0 · reply",
        "770 ms",
        "40 tokens",
    ):
        assert part in shown
    assert page.js("document.querySelectorAll('.strip-plot a').length") == 4
    page.js("history.back()")
    page.wait_for("!document.getElementById('overview').hidden")
    assert page.js("Math.abs(scrollY - 500) < 5")


def test_arrow_keys_leaf_through_the_queries_and_escape_leaves(page):
    go(page, "77")
    for key, condition in [
        ("ArrowRight", "document.querySelector('.question').innerText === 'Question 78?'"),
        ("ArrowLeft", "document.querySelector('.question').innerText === 'Question 77?'"),
        ("Escape", "document.getElementById('query').hidden"),
    ]:
        page.send("Input.dispatchKeyEvent", type="keyDown", key=key)
        page.wait_for(condition)


def test_markup_in_answers_is_shown_and_not_run(page):
    go(page, "202%20%C3%A9%25")
    assert text_of(page, ".question") == HOSTILE
    assert text_of(page, ".answer p") == HOSTILE
    assert page.js("document.querySelectorAll('main img, main script').length") == 0
    assert page.js("typeof window.hacked") == "undefined"


def test_json_that_was_cut_off_is_still_laid_out(page):
    go(page, "200")
    shown = page.js("document.querySelectorAll('.block')[1].innerText")
    assert '    city: "Paris",\n' in shown or 'city: "Paris"' in shown
    assert shown.rstrip().endswith("}")
    page.js("document.querySelectorAll('.step')[0].querySelectorAll('.said')[1].querySelector('button').click()")
    assert page.js("document.querySelectorAll('.block')[1].textContent") == CUT_OFF + "..."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"a": [1, {"b": "c", "d": "e...', {"a": [1, {"b": "c", "d": "e…"}]}),
        ('{"a": "b\\u00...', {"a": "b…"}),
        ('{"a": "b\\...', {"a": "b…"}),
        ('{"a": "b\\\\u00...', {"a": "b\\u00…"}),
        ('{"a": 1, "b...', {"a": 1}),
        ("[1, 2, tru...", [1, 2]),
        ('{"error": "", "response": "[1, 2', {"error": "", "response": [1]}),
        ('{"response": "\\"sunny\\""}', {"response": "sunny"}),
        ('{"response": "\\"sun\\" is a \\"star\\""}', {"response": '"sun" is a "star"'}),
        ('"sunny"', None),
        ("{'a': 1}", None),
        ("sunny", None),
    ],
)
def test_what_is_left_of_json_is_read(page, text, value):
    assert page.js(f"parsed({json.dumps(text)}) ?? null") == value


@pytest.mark.parametrize(
    "reply",
    ["[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, "[1," * 20_000, json.dumps([0] * 100_000)],
    ids=["deep list", "deep object", "cut off", "long list"],
)
def test_a_reply_of_any_depth_and_length_is_shown(browser, tmp_path, reply):
    with replica_log(tmp_path) as log:
        run_query(tmp_path, log, "1", [Move(observation=reply), finish()])
    with browser.watched(write_report(tmp_path).as_uri()):
        go(browser, "1")
        shown = browser.js("[...document.querySelectorAll('pre.block')].map((each) => each.textContent)")
        assert re.sub(r"\s", "", reply) in [re.sub(r"\s", "", each) for each in shown]


def test_an_error_in_a_reply_is_no_good_reply_to_the_reader(page):
    badge = "(codeBadge({code: 0, observation: %s}, true)).outerHTML"
    good = page.js(badge % json.dumps(json.dumps({"error": "", "response": "fine"})))
    bad = page.js(badge % json.dumps(json.dumps({"error": "No such city", "response": ""})))
    assert ("code-ok" in good, "0 · reply<" in good) == (True, True)
    assert ("code-up" in bad, "0 · reply with an error<" in bad) == (True, True)


def test_a_failure_says_why(page):
    go(page, "201")
    assert text_of(page, ".problem p") == "ValueError: broken"
    assert "what its last try had done" in text_of(page, ".problem")
    assert "last_deed_for_log" in text_of(page, ".step")


def test_the_record_leads_to_a_failed_query(page):
    page.js("[...document.querySelectorAll('.record details')].forEach((fold) => (fold.open = true))")
    assert "median 730 ms, 95% within 1.4 s, longest 1.5 s" in text_of(page, "#record")
    page.js("document.querySelector('#record a').click()")
    page.wait_for("!document.getElementById('query').hidden")
    assert text_of(page, ".question") == "Broken?"


def test_an_address_of_nothing_is_said_to_be_so(page):
    page.js("void (location.hash = '999')")
    page.wait_for("!document.getElementById('notice').hidden")
    assert text_of(page, "#notice") == "There is no query 999 in this report."


def test_the_timeline_reads_out_what_is_under_the_pointer(page):
    names = page.js("[...document.querySelectorAll('.lane-name')].map((name) => name.innerText)")
    assert names == ["Replica 0\n1 GPU", "Replica 1\nCPU", "GPU 0 · H100"]
    assert "% of its time generating" in text_of(page, ".lane-value")
    page.js("document.getElementById('timeline').scrollIntoView({block: 'center'})")
    middle = "(({left, top, width}) => [left + width / 2, top + 5])"
    x, y = page.js(f"{middle}(document.querySelector('.lane-plot').getBoundingClientRect())")
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait_for("document.querySelector('.lane-value').innerText.includes('waiting for an API')")
    assert page.js("[...document.querySelectorAll('.lane-value')].map((value) => value.innerText)")[2] == "40.0 GiB"


def test_light_and_dark_are_a_click_apart(page):
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.js(background)
    page.js("document.getElementById('theme').click()")
    assert page.js(background) != before
    page.js("document.getElementById('theme').click()")
    assert page.js(background) == before


def test_on_a_phone_nothing_is_wider_and_numbers_have_their_names(page, report):
    page.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    try:
        for address in ("", "77", "202%20%C3%A9%25"):
            page.open(f"{report}#{address}")
            assert page.js("document.documentElement.scrollWidth") <= 390
        page.open(report)
        assert page.js("document.querySelector('.table-frame').scrollWidth") <= 390
        assert page.js("getComputedStyle(document.querySelector('td.number'), '::before').content") == '"steps "'
    finally:
        page.send("Emulation.clearDeviceMetricsOverride")


def test_a_fork_is_folded_and_an_address_opens_it(browser, tmp_path):
    moves = [Move(action="a"), finish(GIVE_UP), Move(action="b"), finish()]
    write_answer(tmp_path, "7", search(moves, method="DFS_woFilter_w2"), "Which way?", "DFS_woFilter_w2")
    browser.open(write_report(tmp_path).as_uri() + "#7")
    assert browser.js("[...document.querySelectorAll('.is-branch')].map((branch) => branch.open)") == [False, True]
    assert text_of(browser, ".outline").split() == [
        "1",
        "a",
        "reply",
        "2",
        "Finish",
        "gave",
        "up",
        "3",
        "b",
        "reply",
        "4",
        "Finish",
        "final",
        "answer",
    ]
    browser.js("document.querySelectorAll('.outline a')[1].click()")
    browser.wait_for("document.querySelector('#step-2.is-target')")
    assert browser.js("document.querySelector('.is-branch').open")


def test_tries_are_one_below_the_other(browser, tmp_path):
    write_answer(tmp_path, "7", search([finish(GIVE_UP), Move(), finish()], method="CoT@2"), "Again?", "CoT@2")
    browser.open(write_report(tmp_path).as_uri() + "#7")
    assert browser.js("[...document.querySelectorAll('.is-try > summary')].map((each) => each.innerText)") == [
        "Try 1 of 2 · 1 stepGave up",
        "Try 2 of 2 · 2 stepsAnswered",
    ]


def test_queries_that_were_not_begun_are_counted(browser, tmp_path):
    with replica_log(tmp_path) as log:
        run_query(tmp_path, log, "7", [finish()])
        log.write("query_start", query="8", method="CoT@1", text="Cut off?")
    write_run_record(tmp_path, RunRecord("run-1", "interrupted", 0.0, counts=Counts(queries=4, answered=1, left=3)))
    browser.open(write_report(tmp_path).as_uri())
    legend = text_of(browser, "#outcome-legend").split("\n")
    assert " ".join(legend) == "Answered 1 25.0% Not finished 1 25.0% Not begun 2 50.0%"
    assert text_of(browser, ".tile") == "Queries\n4\n2 not begun"
    assert "Not begun" not in text_of(browser, "#outcome-filter")


def test_a_folder_without_events_has_a_page_without_timeline(browser, tmp_path):
    write_answer(tmp_path, "7", search([finish()]), "Alone?")
    browser.open(write_report(tmp_path).as_uri())
    assert browser.js("document.getElementById('timeline-section').hidden")
    assert "no timeline" in text_of(browser, "#notice")
    assert ids(browser) == ["7"]


def test_the_benchmark_measures_real_queries_and_ends_in_json(tmp_path, capsys):
    data = Path(__file__).resolve().parents[3] / "shared" / "real_data"
    if not data.is_dir():
        pytest.skip("needs ../shared/real_data beside the checkout, found none")
    options = ["--data_dir", data, "--queries", 20, "--repeats", 1, "--methods", "DFS_woFilter_w2", "--keep", tmp_path]
    assert report_page.main([str(option) for option in options]) == 0
    [result] = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    page = tmp_path / "DFS_woFilter_w2" / "report.html"
    assert (result["queries"], result["page_mb"]) == (20, round(page.stat().st_size / 1e6, 2))
    assert min(result[key] for key in ("load_s", "open_longest_query_s", "first_deep_search_s")) > 0


FOCUSED = "document.activeElement?.textContent"


def press_key(page, key):
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key=key, text="\r" if key == "Enter" else "")


def test_a_keyboard_goes_on_from_where_it_was(page):
    page.js("[...document.querySelectorAll('#columns button')].find((each) => each.textContent === 'Time').focus()")
    press_key(page, "Enter")
    page.wait_for("document.querySelector('#columns th[aria-sort]')?.textContent === 'Time'")
    assert page.js(FOCUSED) == "Time"
    page.js("document.querySelectorAll('#outcome-filter button')[1].focus()")
    press_key(page, "Enter")
    page.wait_for("document.querySelectorAll('#outcome-filter button')[1].ariaPressed === 'true'")
    assert page.js(FOCUSED).startswith("Answered")
    page.js("document.querySelector('#rows a').focus()")
    opened = page.js(FOCUSED)
    press_key(page, "Enter")
    page.wait_for("!document.getElementById('query').hidden")
    assert page.js(FOCUSED) == opened  # the query's heading
    press_key(page, "Escape")
    page.wait_for("document.getElementById('query').hidden")
    assert page.js(f"{FOCUSED} === {json.dumps(opened)} && document.activeElement.tagName === 'A'")


def test_what_was_chosen_is_in_the_address_and_is_there_again(page, report):
    page.js(
        "search.value = 'question', deep.checked = true, table.outcome = 'answered', table.sortBy(table.columns[6])"
    )
    page.js("document.getElementById('theme').click()")
    page.wait_for("location.search.includes('sort') && document.querySelector('#rows td.id')?.textContent === '149'")
    chosen, shown, theme = page.js("location.search"), ids(page), page.js("document.documentElement.dataset.theme")
    page.open(report + chosen)
    page.wait_for("document.querySelector('#rows td.id')?.textContent === '149'")
    again = ids(page)
    both = min(len(again), len(shown))  # rows are drawn as far as there is room, and then on
    assert both >= 50
    assert again[:both] == shown[:both]
    assert page.js("[search.value, deep.checked, document.documentElement.dataset.theme]") == ["question", True, theme]
    assert page.js("document.querySelector('#columns th[aria-sort]').textContent") == "Time"
    page.open(report)


def test_the_page_speaks_chinese_and_says_what_the_run_said_as_it_is(page):
    page.js("document.getElementById('language').click()")
    assert text_of(page, "#summary-heading") == "概要"
    assert "已答" in text_of(page, "#rows")
    go(page, "77")
    shown = text_of(page, "#query")
    for part in ("Question 77?", "最终答案", "观察结果", "daily_forecast_for_sky_watch"):
        assert part in shown
    page.js("document.getElementById('language').click()")
    page.wait_for("document.querySelector('.answer h3').textContent === 'Final answer'")


@pytest.mark.parametrize("address", ["", "#77", "#200", "#201"])
def test_in_chinese_only_what_the_run_said_is_in_english(page, report, address):
    page.open(f"{report}?lang=zh{address}")
    page.js("[...document.querySelectorAll('details')].forEach((fold) => (fold.open = true))")
    assert left_in_english(page) == set()
    page.js("document.getElementById('language').click()")
    page.wait_for("document.documentElement.lang === 'en'")
    assert left_in_english(page) & {"Previous", "Answered"}


def test_every_word_of_the_page_has_a_chinese_one():
    """Words that `t` is given as they stand."""
    text = r'"((?:[^"\\]|\\.)*)"'
    for shown in (html.RUN_PAGE, html.COMPARISON_PAGE, retrieval_report.PAGE):
        scripts = "".join(path.read_text(encoding="utf-8") for path in shown.scripts)
        known = set(re.findall(rf"{text}:\s+\"", scripts))
        template = shown.template.read_text(encoding="utf-8")
        asked = set(re.findall(r'data-(?:t|label|hint)="([^"]*)"', template)) | set(
            re.findall(rf"\bt\(\s*{text}", scripts)
        )
        assert len(asked) > 20
        assert asked - known == set()


CONTRAST = """
(() => {
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const backdrop = (element) => {
    for (; element; element = element.parentElement) {
      const found = colour(getComputedStyle(element).backgroundColor);
      if (found.length < 4 || found[3] > 0.99) return found;
    }
    return [255, 255, 255];
  };
  const low = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility?.() || element.closest("[aria-disabled], noscript, script, style")) continue;
    const [a, b] = [luminance(colour(getComputedStyle(element).color)), luminance(backdrop(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.add(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return [...low];
})()
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", "#77", "#200", "#201"])
def test_every_text_can_be_read(page, report, theme, address):
    page.open(f"{report}?theme={theme}{address}")
    page.js("[...document.querySelectorAll('details')].forEach((fold) => (fold.open = true))")
    assert page.js(CONTRAST) == []


def test_on_a_phone_the_table_can_be_sorted(page, report):
    page.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    try:
        page.open(report)
        assert page.js("document.getElementById('sort').checkVisibility()")
        page.js("sort.value = 'seconds down', sort.dispatchEvent(new Event('change'))")
        page.wait_for("document.querySelector('#rows td.id')?.textContent === '149'")
    finally:
        page.send("Emulation.clearDeviceMetricsOverride")


def test_a_failed_query_shows_what_its_model_said(page):
    go(page, "201")
    shown = text_of(page, "#query")
    assert "I look up the forecast." in shown
    assert "Paris" in shown


def test_what_is_found_can_be_taken_along_as_a_table(page):
    page.js("search.value = 'broken', table.update()")
    head, line = page.js("csvOf(table.csvTable(table.found))").strip().split("\r\n")
    assert head.startswith("id,method,outcome,query,")
    assert line.startswith('"201","CoT@1","failed","Broken?"')
    odd = json.dumps([{"id": "=1+1", "query": 'say "hi"'}])
    line = page.js(f"csvOf(table.csvTable({odd}))").split("\r\n")[1]
    assert line.startswith('"\'=1+1",,,"say ""hi"""')


def test_numbers_have_their_distributions(page):
    captions = page.js("[...document.querySelectorAll('.histogram b')].map((name) => name.textContent)")
    assert captions == ["Steps", "Tokens", "Time"]
    assert page.js("document.querySelectorAll('.histogram rect').length") > 20


def test_settings_that_differ_come_first(browser, tmp_path):
    write_answer(tmp_path, "7", search([finish()]), "Alone?")
    record = RunRecord("run-1", "finished", 0.0, configuration={"seed": 7, "method": "CoT@1"}, changed=["seed"])
    write_run_record(tmp_path, record)
    browser.open(write_report(tmp_path).as_uri())
    assert text_of(browser, "#record details[open]") == "Settings that differ from the defaults 1\nseed\n7"
