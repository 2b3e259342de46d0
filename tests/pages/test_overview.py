"""The overview on the demo."""

import pytest

from tests.conftest import Demo
from tests.pages.opening import open_page, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def test_overview_has_one_sentence_with_its_number_for_each_area(as_demo: Demo) -> None:
    app = open_page("overview")
    assert verdict(app) == verdict(open_page("drift"))
    figures = {metric.label: metric.value for metric in app.metric}
    assert figures | {"Drift": "", "Gaps": ""} == {
        "Drift": "",
        "Gaps": "",
        "Prompt": "v2",
        "Corpus": "v1",
        "Rollouts": "2",
    }
    sentences = " ".join(text_of(m.value) for m in app.markdown if m.value.startswith(":small["))
    for expected in ("score fell", "score low", "v2 is in production", "v1 is live", "2 of 5 flags"):
        assert expected in sentences
