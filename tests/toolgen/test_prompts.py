import textwrap

import pytest

from evaluation.toolbench.checkout import find_texts
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.toolgen.prompts import (
    OWN_FINISH_DESCRIPTION,
    OWN_SYSTEM_PROMPT,
    TextDigests,
    load_prompt_texts,
    prompt_layout,
    text_digest,
)

PLAIN = "You plan.\n1. Think.\nEnd with <<Finish>>."
INDENTED = "You plan.\n    1. Think.\n    End with {finish}."
WITH_ACTIONS = "You plan.\n    Allowed: {actions}. End with {finish}."
ENDS = "Ends the conversation."
DIGESTS = TextDigests(*map(text_digest, (PLAIN, INDENTED, WITH_ACTIONS, ENDS)))


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a file that has the indented texts, which raises when it is run."""
    source = f"""
raise SystemExit("read me, do not run me")
SystemPrompt = {INDENTED!r}
class Agent:
    tokens = {WITH_ACTIONS!r}
    def finish(self):
        return {{"description": {ENDS!r}}}
"""
    path = tmp_path / "checkout/OpenAgent/agents/toolgen/toolgen.py"
    path.parent.mkdir(parents=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return tmp_path / "checkout"


def test_the_texts_of_a_checkout_are_found_without_running_it(checkout):
    texts = load_prompt_texts(indented=True, root=checkout, digests=DIGESTS)
    assert texts.system == INDENTED
    assert texts.finish_description == ENDS
    assert texts.own == ()
    assert texts.system_prompt("Finish") == "You plan.\n    1. Think.\n    End with Finish."
    assert texts.system_prompt("Finish", ["a"]) == "You plan.\n    Allowed: ['a']. End with Finish."


def test_the_unindented_prompt_is_made_from_the_indented_one(checkout):
    texts = load_prompt_texts(indented=False, root=checkout, digests=DIGESTS)
    assert texts.system_prompt("<<Finish>>") == PLAIN


def test_an_unindented_prompt_that_comes_out_different_is_not_used(checkout):
    digests = TextDigests("0" * 16, DIGESTS.system_indented, DIGESTS.system_tokens, DIGESTS.finish_description)
    texts = load_prompt_texts(indented=False, root=checkout, digests=digests)
    assert (texts.system, texts.own) == (OWN_SYSTEM_PROMPT, ("the system prompt",))


def test_without_a_checkout_our_own_texts_stand_in_and_are_named(tmp_path):
    texts = load_prompt_texts(indented=True, root=tmp_path)
    assert (texts.system, texts.finish_description) == (OWN_SYSTEM_PROMPT, OWN_FINISH_DESCRIPTION)
    assert texts.own == ("the system prompt", "the documentation of Finish")


def test_a_system_prompt_file_goes_first(checkout, tmp_path):
    (tmp_path / "prompt.txt").write_text("Mine, with {finish}. Ünïcode.", encoding="utf-8")
    texts = load_prompt_texts(indented=True, root=checkout, digests=DIGESTS, system_prompt_file=tmp_path / "prompt.txt")
    assert texts.system_prompt("Finish") == "Mine, with Finish. Ünïcode."
    assert texts.own == ()


def test_a_system_prompt_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    for name in ("nothing.txt", "latin.txt"):
        with pytest.raises(ConfigError, match=f"cannot read the system prompt file .*{name}"):
            load_prompt_texts(indented=True, root=tmp_path, system_prompt_file=tmp_path / name)


def test_files_that_are_no_python_are_passed_over(checkout):
    (checkout / "evaluation").mkdir()
    (checkout / "evaluation/broken.py").write_text("def (", encoding="utf-8")
    (checkout / "evaluation/binary.py").write_bytes(b"\xff\xfe\x00")
    (checkout / "evaluation/other.py").write_text(f"PROMPT = {PLAIN!r}", encoding="utf-8")
    assert find_texts(checkout, {text_digest(PLAIN)}) == {text_digest(PLAIN): PLAIN}


def test_an_unknown_layout_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'newest': use upstream or trained"):
        prompt_layout("newest")


@pytest.mark.parametrize("actions", [None, ["<<A&&b>>"]])
def test_our_own_prompts_have_no_slot_left_when_filled_in(tmp_path, actions):
    prompt = load_prompt_texts(indented=True, root=tmp_path).system_prompt("<<Finish>>", actions)
    assert "{" not in prompt
    assert "<<Finish>>" in prompt
