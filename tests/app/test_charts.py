"""Every chart of every page is a card: a title that states what it shows, its table and CSV, and known colors."""

import json
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.colors import CATEGORIES, QUIET, VERSION_COLORS
from tests.conftest import Demo
from tests.pages.opening import open_page, text_of

KNOWN = {*CATEGORIES, *VERSION_COLORS, QUIET}
CHARTS = {
    ("overview", ""): 1,
    ("drift", ""): 2,
    ("coverage", ""): 2,
    ("prompts", "Compare"): 3,
    ("prompts", "Live"): 0,
    ("corpus", "Versions"): 1,
    ("rollouts", "Canaries"): 1,
    ("audit", ""): 0,
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def list_colors(value: Any) -> set[str]:
    """Every color that a chart names by hand, without its opacity."""
    if isinstance(value, dict):
        return set().union(*(list_colors(each) for name, each in value.items() if name != "template"), set())
    if isinstance(value, list):
        return set().union(*map(list_colors, value), set())
    if not isinstance(value, str):
        return set()
    if found := re.fullmatch(r"rgba?\((\d+), ?(\d+), ?(\d+).*\)", value):
        return {"#{:02x}{:02x}{:02x}".format(*map(int, found.groups()))}
    return {value.lower()} if re.fullmatch(r"#[0-9a-fA-F]{6}", value) else set()


@pytest.mark.deep
@pytest.mark.parametrize(("page", "tab"), CHARTS, ids=lambda part: part or "whole")
def test_every_chart_says_what_it_shows_and_offers_its_data(page: str, tab: str, as_demo: Demo) -> None:
    app: AppTest = open_page(page, **({"tab": tab} if tab else {}), **({"days": "7d"} if page == "coverage" else {}))
    assert not app.exception
    charts = app.get("plotly_chart")
    assert len(charts) == CHARTS[page, tab]
    titles = [each.value.removeprefix("##### ") for each in app.markdown if each.value.startswith("##### ")]
    for chart in charts:
        title = next(each for each in titles if chart.proto.alt.endswith(f": {text_of(each)}"))
        assert len(title.split()) >= 5
        assert any(button.label == f"Table **of: {title}**" for button in app.button)
        assert any(button.proto.label == f"CSV **of: {title}**" for button in app.get("download_button"))
        assert list_colors(json.loads(chart.proto.spec)) <= KNOWN


@pytest.mark.deep
def test_a_chart_is_shown_as_a_table_whose_rows_lead_on(as_demo: Demo) -> None:
    app = open_page("drift")
    next(button for button in app.button if button.label.startswith("Table **of: The median score")).click().run()
    assert len(app.get("plotly_chart")) == 1
    table = next(each.value for each in app.dataframe if "what changed" in each.value)
    assert {"day", "questions", "median", "10% score below", "90% score below"} <= set(table)
    assert any("new_prompt_v3" in said for said in table["what changed"])
    next(button for button in app.button if button.label.startswith("Chart **of: The median score")).click().run()
    assert len(app.get("plotly_chart")) == 2
