"""The page of an evaluation in a real browser."""

import pytest

from evaluation.toolbench.inference.records.run_record import GpuRecord, RunRecord
from evaluation.toolbench.retrieval.evaluation_sets import EvaluationSet
from evaluation.toolbench.retrieval.queries import Query
from evaluation.toolbench.retrieval.query_log import NOTHING, Outcome, Prediction
from evaluation.toolbench.retrieval.report import report_page
from evaluation.toolbench.retrieval.results import evaluate
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.page_words import left_in_english

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (chromium or google-chrome), found none")

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
TOOLS = [f"<<Tool {number}&&API>>" for number in range(30)]


def outcome(*texts):
    found = tuple(Prediction(text, -0.5 - place, -1.0 - place) for place, text in enumerate(texts))
    return Outcome(found[:5], found)


def result(is_constrained):
    queries = [Query(number, f"Question {number}?", (number,), (TOOLS[number % 30],)) for number in range(100)]
    queries += [Query(100, HOSTILE, (1, 2), (HOSTILE, TOOLS[1])), Query(101, "", (), (), problem="the query is empty")]
    outcomes = [outcome(*TOOLS[1:11]) for _ in range(100)] + [outcome(HOSTILE, "no tool at all", TOOLS[1]), NOTHING]
    each = EvaluationSet("G1", "tool", is_constrained, False, queries, [*TOOLS, HOSTILE], frozenset())
    return evaluate(each, outcomes)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    record = RunRecord("r", "finished", 0.0, gpus=[GpuRecord("GPU-a", "H100", 80 * 2**30, 0)], configuration={"a": 1})
    described = {"dtype": "float32", "weights": "int8"}
    path.write_text(report_page("my model", described, record, [result(True), result(False)]), "utf-8")
    browser = Browser(folder / "profile")
    browser.open(path.as_uri())
    yield browser
    browser.close()


def click(page, selector):
    page.js(f"document.querySelector({selector!r}).click()")


def texts(page, selector):
    return page.js(f"[...document.querySelectorAll({selector!r})].map((each) => each.innerText)")


def test_the_page_shows_the_numbers_of_each_set_and_loads_nothing(page):
    rows = texts(page, "#numbers tbody tr")
    assert [row.split("\t")[0].strip() for row in rows] == ["G1 tool constrained", "G1 tool unconstrained"]
    assert "±" in rows[0]
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("file:", "about:"))] == []
    assert page.js("document.querySelector('#facts').textContent").startswith("weights int8 · ")
    assert "H100" in page.js("document.body.textContent")


def test_a_query_shows_its_tools_the_first_ten_and_marks_the_hits(page):
    page.js("document.querySelectorAll('.query')[3].open = true")
    page.wait_for("document.querySelectorAll('.query')[3].querySelector('.query-body')")
    body = texts(page, ".query:nth-of-type(4) .query-body")[0]
    assert "Question 3?" in texts(page, ".query:nth-of-type(4) summary")[0]
    assert "hit at 3" in texts(page, ".query:nth-of-type(4) summary")[0]
    assert "✓ <<Tool 3&&API>>" in body
    assert "36.8 %" in body  # exp(-1), of the first
    assert len(texts(page, ".query:nth-of-type(4) ol li")) == 10


def test_queries_can_be_searched_and_the_misses_kept(page):
    page.js("byId('search').value = 'question 42'; byId('search').dispatchEvent(new Event('input'))")
    assert [text.split("\n")[1] for text in texts(page, ".query summary")] == ["Question 42?"]
    page.js(
        "byId('search').value = ''; byId('misses').checked = true; byId('misses').dispatchEvent(new Event('change'))"
    )
    assert texts(page, "#shown") == ["62"]  # tools 0 and 11 to 29 are never named, and one query was not searched for
    page.js("byId('misses').checked = false; byId('misses').dispatchEvent(new Event('change'))")
    assert texts(page, "#shown") == ["102"]


def test_texts_of_queries_and_tools_are_text_and_never_markup(page):
    page.js("byId('search').value = 'window.hacked'; byId('search').dispatchEvent(new Event('input'))")
    page.js("document.querySelector('.query').open = true")
    page.wait_for("document.querySelector('.query .query-body')")
    assert page.js("window.hacked") is None
    body = texts(page, ".query")[0]
    assert f"✓ {HOSTILE}" in body
    assert texts(page, ".query .off .name") == ["no tool at all"]
    page.js("byId('search').value = 'question'; byId('search').dispatchEvent(new Event('input'))")
    click(page, "#sets button:nth-of-type(2)")
    assert page.js("document.querySelector('#sets button:nth-of-type(2)').getAttribute('aria-pressed')") == "true"
    assert page.errors == []


def test_a_keyboard_goes_on_from_the_set_that_it_chose(page):
    page.js("void document.querySelector('#sets button:nth-of-type(2)').focus()")
    page.js("document.activeElement.click()")
    assert page.js("document.activeElement === document.querySelector('#sets button:nth-of-type(2)')")
    assert page.js("[...document.querySelectorAll('#sets button')].map((each) => each.ariaPressed)") == [
        "false",
        "true",
    ]


@pytest.mark.parametrize("value", [0.0625, 0.1875, 0.3125, 0.5, 1 / 3, 0.00049, 1.0, 0.9999])
def test_the_page_rounds_as_the_table_on_the_terminal(page, value):
    assert page.js(f"percent({value})") == f"{100 * value:.1f}"


def test_the_page_speaks_chinese_and_keeps_what_was_chosen(page):
    click(page, "#language")
    page.js("byId('misses').click()")
    click(page, "#theme")
    page.js("[...document.querySelectorAll('details')].slice(0, 12).forEach((fold) => (fold.open = true))")
    page.wait_for("document.querySelector('.query-body')")
    assert left_in_english(page) == set()
    assert "未命中" in texts(page, "#queries")[0]
    shown, theme = texts(page, "#shown"), page.js("document.documentElement.dataset.theme")
    page.open(page.js("location.href"))
    assert (texts(page, "#shown"), page.js("document.documentElement.dataset.theme")) == (shown, theme)
    assert texts(page, "#record-heading") == ["运行"]
