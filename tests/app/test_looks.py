"""The marks of states: icons that Streamlit brings, and no sign that its fonts lack."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.material_icon_names import ALL_MATERIAL_ICONS

from app.looks import Mark, StatusLook
from tests.conftest import PROJECT

# What pages write beside ASCII; Source Sans, the font that Streamlit brings, has all of these.
DRAWN = set("±¶·×–—“”…→−▲▼✓✗") | {"\u00a0"}
PATTERNS = {"\u2060", "\ufffd"}  # what users' text is escaped with


@pytest.mark.parametrize("mark", Mark)
def test_each_mark_is_an_icon_that_streamlit_brings(mark: Mark) -> None:
    assert mark.value in ALL_MATERIAL_ICONS


def test_a_mark_is_one_state_of_affairs_and_never_stands_without_its_word() -> None:
    assert len({mark.value for mark in Mark}) == len(Mark)
    assert StatusLook("Stable", "green", Mark.FINE).badge == ":green-badge[:material/check_circle: Stable]"


def list_signs() -> Iterator[tuple[str, str]]:
    for folder in ("app", "pages"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            for sign in set(path.read_text(encoding="utf-8")):
                yield str(Path(path).relative_to(PROJECT)), sign


def test_no_page_writes_a_sign_that_the_shipped_font_lacks() -> None:
    foreign = [(path, sign) for path, sign in list_signs() if ord(sign) > 127 and sign not in DRAWN | PATTERNS]
    assert foreign == []
