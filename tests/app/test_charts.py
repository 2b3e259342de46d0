"""Every chart of every page: a title that states what it shows, its data as CSV, and distinguishable colors."""

import json
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import ui
from tests.conftest import Demo
from tests.pages.opening import open_page

OKABE_ITO = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
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
    offered = [button.proto.id for button in app.get("download_button") if button.proto.label == "Chart as CSV"]
    assert len(offered) == len(charts)
    for chart in charts:
        spec = json.loads(chart.proto.spec)
        assert len(spec["layout"]["title"]["text"].split()) >= 3
        assert chart.proto.alt
        assert list_colors(spec) <= OKABE_ITO | {ui.QUIET}


def test_the_hues_of_charts_are_those_that_color_blind_people_tell_apart() -> None:
    assert set(ui.CATEGORIES) | set(ui.ARM_COLORS.values()) <= OKABE_ITO
    assert len(set(ui.CATEGORIES)) == len(ui.CATEGORIES)
