import json
import os
from pathlib import Path

import pytest

from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.toolgen.catalog import load_catalog
from evaluation.toolbench.names import ActionName, get_toolbench_name
from tests.helpers.toolgen import INDEXES, NAMES, SKY_WATCH, TOKEN_LINES, TOOLS, write_data_folder

REAL_DATA = Path(os.environ.get("TOOLGEN_REAL_DATA", Path(__file__).resolve().parents[3] / "shared/real_data"))


@pytest.fixture
def data_dir(tmp_path):
    return write_data_folder(tmp_path / "data")


def test_tables_of_one_token_an_action(data_dir):
    catalog = load_catalog(data_dir, "Atomic", "Ends.")
    assert catalog.token_to_toolbench_name == {
        "<<Finish>>": "Finish",
        SKY_WATCH: NAMES[0],
        "<<Sky Watch&&Air Quality>>": NAMES[1],
        "<<Cafe Finder&&Find Cafe>>": NAMES[2],
    }
    reverse = {name: action for action, name in catalog.token_to_toolbench_name.items()}
    assert catalog.toolbench_name_to_token == {
        **reverse,
        "invalid_hallucination_function_name": "Invalid Action",
    }


@pytest.mark.parametrize("indexing", INDEXES)
def test_tables_of_actions_of_several_tokens(data_dir, indexing):
    catalog = load_catalog(data_dir, indexing, "Ends.")
    assert [catalog.action_of(name) for name in NAMES] == INDEXES[indexing]
    assert [catalog.name_of(action) for action in INDEXES[indexing]] == NAMES
    assert catalog.action_of("Finish") == catalog.finish
    assert set(catalog.documented_actions()) == {*INDEXES[indexing], catalog.finish}


def test_documentation_keeps_the_order_of_keys_and_the_raw_parameters(data_dir):
    documentation = load_catalog(data_dir, "Atomic", "Ends.").documentation
    api = TOOLS[0]["api_list"][0]
    assert list(documentation[SKY_WATCH].items()) == [
        ("name", SKY_WATCH),
        ("description", "Daily Forecast for one city."),
        ("required", api["required_parameters"]),
        ("optional", api["optional_parameters"]),
    ]
    assert "name" not in documentation["<<Finish>>"]
    assert documentation["<<Finish>>"]["description"] == "Ends."
    assert documentation["Invalid Action"] == "No documentation, try again."


def test_descriptions_that_are_blank_or_missing_say_none(data_dir):
    documentation = load_catalog(data_dir, "Atomic", "Ends.").documentation
    assert documentation["<<Sky Watch&&Air Quality>>"]["description"] == "None."
    assert documentation["<<Cafe Finder&&Find Cafe>>"]["description"] == "None."


@pytest.mark.parametrize("indexing", ["Atomic", "Semantic"])
def test_an_api_without_an_action_cannot_be_chosen_and_is_said_once(tmp_path, indexing, caplog):
    tools = [*TOOLS, {"tool_name": "New", "api_list": [{"name": "Thing"}]}]
    data_dir = write_data_folder(tmp_path / "data", tools=tools)
    catalog = load_catalog(data_dir, indexing, "Ends.")
    assert len(catalog.documented_actions()) == 4
    assert "1 APIs of tools.json" in caplog.text
    assert "'Thing' of 'New'" in caplog.text
    assert "thing_for_new" not in catalog.token_to_toolbench_name.values()


def test_of_apis_that_share_a_name_the_plain_name_is_the_last_and_the_full_one_is_exact(tmp_path):
    tool_names = [f"{which} tool with a name that is so long that its beginning is lost from it" for which in "AB"]
    api_name = "And An Api Name That Fills The Rest Of It"
    tools = [{"tool_name": tool, "api_list": [{"name": api_name}]} for tool in tool_names]
    tokens = [f"<<{tool}&&{api_name}>>" for tool in tool_names]
    catalog = load_catalog(
        write_data_folder(tmp_path / "data", tools=tools, token_lines=["<<Finish>>", *tokens]), "Atomic", "Ends."
    )
    name = get_toolbench_name(tool_names[0], api_name)
    assert name == get_toolbench_name(tool_names[1], api_name)
    assert catalog.action_of(name) == tokens[1]
    assert catalog.actions_of(name) == tuple(tokens)
    for tool, token in zip(tool_names, tokens, strict=True):
        assert catalog.action_of(ActionName.of(tool, api_name)) == token
        assert catalog.actions_of(ActionName.of(tool, api_name)) == (token,)


def test_a_catalog_is_read_once(data_dir):
    assert load_catalog(data_dir, "Atomic", "Ends.") is load_catalog(str(data_dir), "Atomic", "Ends.")


def test_what_no_action_stands_for(data_dir):
    catalog = load_catalog(data_dir, "Atomic", "Ends.")
    assert catalog.action_of("unheard_of") is None
    assert catalog.actions_of("unheard_of") == ()
    assert catalog.name_of("<<Unheard&&Of>>") == "<<Unheard&&Of>>"


CODES = {
    "daily_forecast_for_sky_watch": "<a_12><b_5>",
    "<<Sky Watch&&Air Quality>>": "<a_12><b_7>",
    "Finish": "<a_0><b_0>",
}


def write_codes(tmp_path, codes):
    path = tmp_path / "codes.json"
    path.write_text(json.dumps(codes), encoding="utf-8")
    return path


def test_a_file_may_hold_any_indexing(data_dir, tmp_path):
    catalog = load_catalog(data_dir, "Semantic", "Ends.", write_codes(tmp_path, CODES))
    assert catalog.finish == "<a_0><b_0>"
    assert catalog.actions == ["<a_0><b_0>", "<a_12><b_5>", "<a_12><b_7>"]
    assert catalog.action_of("daily_forecast_for_sky_watch") == "<a_12><b_5>"
    assert catalog.action_of(ActionName.of("Sky Watch", "Air Quality")) == "<a_12><b_7>"
    assert catalog.name_of("<a_12><b_7>") == "air_quality_for_sky_watch"
    assert set(catalog.documented_actions()) == set(catalog.actions)
    assert catalog.documentation["<a_12><b_5>"]["name"] == "<a_12><b_5>"


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ({"a": "<a_1>"}, r"codes.json has no text under 'Finish'"),
        ({**CODES, "Finish": 5}, r"codes.json has no text under 'Finish'"),
        ({**CODES, "a": 7}, r"codes.json: the entry 'a' is 7"),
        ({**CODES, "a": "<a_0><b_0>"}, r"codes.json: the entry 'a' is .* which is Finish's own"),
        ([], r"codes.json holds a list"),
    ],
)
def test_a_file_of_an_indexing_that_cannot_be_used_is_one_line(data_dir, tmp_path, codes, words):
    with pytest.raises(DataError, match=words) as error:
        load_catalog(data_dir, "Semantic", "Ends.", write_codes(tmp_path, codes))
    assert "\n" not in str(error.value)


def write(data_dir, path, text):
    (data_dir / path).write_text(text, encoding="utf-8")


BAD_FILES = {
    "tools.json is not JSON": ("Atomic", "toolenv/tools/tools.json", "[{", "is not JSON"),
    "tools.json is no list": ("Atomic", "toolenv/tools/tools.json", "{}", "holds a dict, not a list"),
    "a tool has no APIs": (
        "Atomic",
        "toolenv/tools/tools.json",
        '[{"tool_name": "A"}]',
        r"tool 0 \(A\) has no list 'api_list'",
    ),
    "an API has no name": (
        "Atomic",
        "toolenv/tools/tools.json",
        '[{"tool_name": "A", "api_list": [{}]}]',
        r"tool 0 \(A\), API 0 has no text under 'name'",
    ),
    "a line is no token": ("Atomic", "virtual_tokens.txt", "<<Finish>>\nSky Watch\n", "line 2: 'Sky Watch' is not of"),
    "a token appears twice": ("Atomic", "virtual_tokens.txt", "<<A&&b>>\n<<A&&b>>\n", "line 2: .* appears twice"),
    "an index is no object": ("Numeric", "toolenv/Tool2NumericId.json", "[]", "holds a list, not an object"),
    "an index has an empty text": ("Numeric", "toolenv/Tool2NumericId.json", '{"a": " "}', "the entry 'a' is ' '"),
    "an index uses Finish's text": ("Semantic", "toolenv/Tool2SemanticId.json", '{"a": "Finish"}', "Finish's own"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_broken_file_is_named_with_the_place_in_it(data_dir, case):
    indexing, path, text, message = BAD_FILES[case]
    write(data_dir, path, text)
    with pytest.raises(DataError, match=message) as raised:
        load_catalog(data_dir, indexing, "Ends.")
    assert Path(path).name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_folder_is_named(data_dir, tmp_path):
    (data_dir / "virtual_tokens.txt").unlink()
    with pytest.raises(DataError, match=r"virtual_tokens\.txt does not exist"):
        load_catalog(data_dir, "Atomic", "Ends.")
    with pytest.raises(ConfigError, match="no data folder at"):
        load_catalog(tmp_path / "nothing", "Atomic", "Ends.")


def test_tokens_read_under_windows_line_ends(data_dir):
    (data_dir / "virtual_tokens.txt").write_bytes("\r\n".join(TOKEN_LINES).encode())
    assert SKY_WATCH in load_catalog(data_dir, "Atomic", "Ends.").documentation


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"needs ToolGen's data at {REAL_DATA} (TOOLGEN_REAL_DATA)")
def test_the_published_tokens_and_tools_make_a_catalog():
    catalog = load_catalog(REAL_DATA, "Atomic", "Ends.")
    assert len(catalog.actions) == 46_985
    tools = json.loads((REAL_DATA / "toolenv/tools/tools.json").read_text(encoding="utf-8"))
    apis = {(tool["tool_name"], api["name"]) for tool in tools for api in tool["api_list"]}
    documented = catalog.documented_actions()
    assert len(documented) > 0.95 * len(apis)  # some real APIs have no token
    for action in documented:
        assert catalog.action_of(catalog.name_of(action)) == action
