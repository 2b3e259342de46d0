"""The navigation, the keys and the glossary: each page is in a group, has an icon and at most one key."""

import re

import pytest

from app import glossary, navigation
from app.panels.frame.help import list_keys, say_about
from app.panels.frame.keys import write_script
from app.panels.frame.sources import ALSO
from app.sparklines import draw_sparkline, say_values
from core.config import PROJECT


def test_every_page_is_in_one_group_and_has_an_icon() -> None:
    grouped = [name for names in navigation.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(navigation.TITLES)
    assert set(navigation.ICONS) == set(navigation.TITLES)


def test_keys_are_letters_of_one_page_each_and_the_help_lists_them() -> None:
    assert set(navigation.KEYS) <= set(navigation.TITLES)
    assert len(set(navigation.KEYS.values())) == len(navigation.KEYS)
    for name, letter in navigation.KEYS.items():
        assert re.fullmatch("[a-z]", letter)
        assert f"| `g` `{letter}` | {navigation.TITLES[name]} |" in list_keys()


def test_the_script_of_the_keys_names_the_path_of_each_page_and_none_when_they_are_off() -> None:
    assert '"d": "drift"' in write_script(is_on=True)
    assert '"o": ""' in write_script(is_on=True)
    assert write_script(is_on=False).startswith("window.deckKeys = null;")


@pytest.mark.parametrize("name", navigation.TITLES)
def test_the_help_says_which_question_a_page_answers(name: str) -> None:
    assert say_about(name)
    assert say_about("../app/main") == ""


def test_the_glossary_of_the_pages_is_that_of_the_guide() -> None:
    guide = (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", guide, re.MULTILINE))
    assert {term: rows.get(term) for term in glossary.TERMS} == glossary.TERMS


def test_terms_are_explained_where_a_text_has_them_as_words() -> None:
    assert "refused exactly when" in (glossary.explain("Refusal accuracy fell") or "")
    assert glossary.explain("a slow and charming warning") is None  # neither low nor arm
    assert "the group of users" in (glossary.explain("both arms") or "")


def test_a_sparkline_is_drawn_from_two_values_on_and_said_in_words() -> None:
    assert draw_sparkline([0.5]) == ""
    assert draw_sparkline([0.5, 0.5]).count("<polyline") == 1
    assert say_values([0.5, 0.25], "mean score") == "mean score: from 0.50 to 0.25, lowest 0.25, highest 0.50"
    assert say_values([9_990.0, 12_345.0], "files") == "files: from 9,990 to 12,345, lowest 9,990, highest 12,345"


def test_every_page_has_words_to_be_found_by() -> None:
    assert set(ALSO) == set(navigation.TITLES)
