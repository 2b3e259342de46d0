"""Prompt files and how two prompts differ."""

import pytest

from core.errors import InvalidInput
from core.prompts.prompts import Prompt, parse_prompt, render_prompt

BODY = "Answer from the context.\n\n{context}\n\nQ: {question}\n"
FULL = f"---\nname: qa\nversion: 2\ndescription: Short\ntop_k: 4\nmax_sentences: 2\nrefuse_below: 0.35\n---\n{BODY}"


def prompt(text: str) -> Prompt:
    return Prompt("qa", "1", "", text, 3, 3, None)


def test_a_file_becomes_a_prompt():
    assert parse_prompt(FULL) == Prompt("qa", "2", "Short", BODY, 4, 2, 0.35)
    assert parse_prompt(FULL.replace("\n", "\r\n")) == parse_prompt(FULL)
    assert parse_prompt(FULL).label == "qa-v2"


def test_what_is_left_out_has_a_default_and_no_threshold_means_never_to_refuse():
    parsed = parse_prompt(f"---\nname: qa\nversion: draft\n---\n{BODY}")
    assert (parsed.top_k, parsed.max_sentences, parsed.refuse_below) == (3, 3, None)
    assert parsed.label == "qa-draft"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BODY, "qa.md: must start with front matter"),
        ("---\nname: [\n---\n" + BODY, "qa.md: the front matter is not YAML"),
        ("---\njust text\n---\n" + BODY, "qa.md: the front matter must consist of"),
        (FULL.replace("top_k: 4", "top_k: 0"), "qa.md, top_k: must be a whole number from 1 to 100, not 0"),
        (FULL.replace("top_k: 4", "top_k: yes"), "qa.md, top_k"),
        (FULL.replace("top_k: 4", "topk: 4"), "qa.md, topk: is unknown"),
        (FULL.replace("0.35", "35"), "qa.md, refuse_below: must be a number from 0 to 1, not 35"),
        (FULL.replace("0.35", ".nan"), "qa.md, refuse_below"),
        (FULL.replace("name: qa", "name: a/b"), "qa.md, name"),
        (FULL.replace("version: 2\n", ""), "qa.md, version"),
        (FULL.replace("{question}", "?"), r"must contain \{question\}"),
    ],
)
def test_a_wrong_file_is_told_by_source_and_field(text, message):
    with pytest.raises(InvalidInput, match=message):
        parse_prompt(text, source="qa.md")


def test_braces_in_the_context_are_not_filled_in():
    rendered = render_prompt(prompt("{context}|{question}|{other}"), context="a {question} b", question="why {x}?")
    assert rendered == "a {question} b|why {x}?|{other}"


@pytest.mark.parametrize(
    "text",
    [
        "Answer only from the context.",
        "Use only\nthe passages below.",
        "Reply in two sentences, using nothing but the context.",
        "Rely on these documents alone.",
        "Do not use outside knowledge.",
        "1. Never add prior knowledge.",
    ],
)
def test_an_instruction_to_keep_to_the_context_is_seen(text):
    assert prompt(text).is_grounded


@pytest.mark.parametrize(
    "text",
    [
        "Use the passages where they help.",
        "Be friendly. Here are some documents:",
        "Write only two sentences. The context follows.",
        "- Answer only if asked\n- Read the context",
        "",
    ],
)
def test_other_instructions_do_not_count_as_grounding(text):
    assert not prompt(text).is_grounded
