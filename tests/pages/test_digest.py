"""The digest on the overview: read when it is opened, without questions for whoever may read none."""

import pytest

from tests.conftest import Demo
from tests.pages.opening import open_page, text_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


@pytest.mark.deep
def test_the_week_in_words_is_read_once_it_is_opened(as_demo: Demo) -> None:
    app = open_page("overview", environment="production", service="docs-chat")
    assert "This week in words" in [each.label for each in app.expander]
    closed = len(app.markdown)
    app.session_state["overview_digest"] = True
    app.run()
    assert (len(app.exception), len(app.error)) == (0, 0)
    assert len(app.markdown) > closed
    said = " ".join(text_of(each.value) for each in app.markdown)
    assert "fell" in said
    assert "new_prompt_v3" in said
