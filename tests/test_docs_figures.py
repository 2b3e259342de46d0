"""The figures that the guides and docstrings state are those of the code."""

import inspect
import math
import re

import pytest

from app import ui
from app.http.backends import TOKENS_KNOWN_FOR_S
from core.config import PROJECT
from core.drift.changepoint import CALL
from core.drift.verdict import WATCH, decide_drift
from quarterdeck import Quarterdeck

STATISTICS = (PROJECT / "docs" / "statistics.md").read_text(encoding="utf-8")
GUIDES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def list_odds(text: str) -> list[int]:
    """The odds that a text states, as in "100 times likelier"."""
    return [int(number) for number in re.findall(r"(\d+)\s+times\s+likelier", text)]


@pytest.mark.parametrize("text", [STATISTICS, decide_drift.__doc__ or ""], ids=["docs/statistics.md", "decide_drift"])
def test_the_odds_of_the_drift_verdict_are_those_of_the_code(text: str) -> None:
    assert list_odds(text) == [round(math.exp(CALL)), round(math.exp(WATCH))]


def test_a_flip_is_seen_within_one_figure_wherever_it_is_told() -> None:
    """The app and the guides name the same seconds, and what clients and servers do by default fits into them."""
    sources = [path for folder in ("app", "pages") for path in (PROJECT / folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in [*sources, *GUIDES]]
    told = re.findall(r"within (?:about )?(an?|one|two|three|\d) seconds?\b", "\n".join(texts))
    assert set(told) == {f"{ui.FLIP_SEEN_WITHIN_S}"}
    assert f"within {ui.FLIP_SEEN_WITHIN_S} seconds" in ui.FLIP_SEEN
    polls_s = inspect.signature(Quarterdeck).parameters["poll_s"].default
    assert max(polls_s, TOKENS_KNOWN_FOR_S) < ui.FLIP_SEEN_WITHIN_S


def test_the_figures_of_the_readme_are_those_of_the_page_that_has_them_all() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8").partition("## Measured")[2]
    rows = re.findall(r"^\| .+? \| (\d[^|]*?) \| .*\|$", readme, re.MULTILINE)
    figures = (PROJECT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert rows
    assert [ours for ours in rows if ours not in figures] == []
