"""Opens pages as a visitor does, and reads what they show."""

import json
import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from streamlit.testing.v1 import AppTest

from core.arms.histories import share_histories
from core.config import PROJECT
from core.errors import InvalidInput

HOSTILE = "<script>alert(1)</script> **bold** [x](javascript:alert(1)) :red[x] $x$ `y`"

# The rows of the demo's first service, whose pages are shown to who chose nothing.
CHAT_ROWS = "retrievals JOIN scopes ON scopes.id = scope_id WHERE service = 'docs-chat' AND environment = 'production'"

LIVE_MARKUP = ("<script", "**bold**", "[x](", ":red[x]", "$x$", "`y`")


def forget() -> None:
    """Drop what Streamlit keeps, and close what it held open."""
    import streamlit as st

    from app.resources import get_store

    with suppress(InvalidInput):  # no store was opened under a wrong setting
        get_store().close()
    st.cache_resource.clear()
    share_histories.cache_clear()


def open_page(name: str, **filters: str) -> AppTest:
    """Open a page by its deep link."""
    app = AppTest.from_file(PROJECT / "app" / "main.py", default_timeout=120)
    app.query_params.update(filters)
    return (app if name == "overview" else app.switch_page(f"../pages/{name}.py")).run()


def text_of(markdown: str) -> str:
    """What a reader sees of escaped Markdown."""
    return re.sub(r"\\(.)", r"\1", markdown).replace("\u2060", "")


def verdict(app: AppTest) -> str:
    """The sentence on top."""
    assert not app.exception
    assert [error.value for error in app.error] == []
    return next(text_of(m.value.removeprefix("#### ")) for m in app.markdown if m.value.startswith("#### "))


def only_error(app: AppTest) -> str:
    """The one error of a page: one line, no traceback."""
    assert not app.exception
    assert len(app.error) == 1, [error.value for error in app.error]
    line = text_of(app.error[0].value)
    assert "\n" not in line.strip()
    assert "Traceback" not in line
    return line


def ask(home_or_url: Path | str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a database, read past all of our own code."""
    if str(home_or_url).startswith("postgresql"):
        with psycopg.connect(str(home_or_url)) as server:
            return server.execute(query.replace("?", "%s"), values).fetchall()
    path = home_or_url if isinstance(home_or_url, Path) else home_or_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query, values).fetchall()


def utc_midnight_ms(days_ago: int = 0) -> int:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((today - timedelta(days=days_ago)).timestamp() * 1000)


def shown_text(app: AppTest) -> str:
    """What a reader sees of the page's sentences."""
    return text_of(" ".join(element.value for element in (*app.markdown, *app.caption)))


def markdown_of(app: AppTest) -> list[str]:
    """Every text of a page that the browser reads as Markdown."""
    shown = [*app.markdown, *app.caption, *app.title, *app.subheader, *app.info, *app.error, *app.success]
    labels = [*app.button, *app.metric, *app.toggle, *app.slider, *app.text_input, *app.selectbox]
    links = [element.proto.label for element in app.get("page_link")]
    return [each.value for each in (*shown, *app.metric)] + [element.label for element in labels] + links


def assert_shown_as_text(app: AppTest) -> None:
    """No page text holds markup of the hostile text that is not escaped."""
    assert not app.exception
    for text in markdown_of(app):
        unescaped = re.sub(r"\\.", "", text)
        assert not [markup for markup in LIVE_MARKUP if markup in unescaped], text


def click_table(app: AppTest, selection: dict[str, Any]) -> AppTest:
    """What the browser sends when a row of the first table is clicked; AppTest has no method for it."""
    states = app._tree.get_widget_states()
    clicked = states.widgets.add(id=app.dataframe[0].proto.id)
    clicked.string_value = json.dumps({"selection": selection})
    return app._run(states)


def cards_of(app: AppTest) -> str:
    """The sentences of the overview's cards, which show on hover."""
    return text_of(" ".join(each.proto.help for each in app.get("page_link")))
