"""Numbers and times as the pages write them: with their unit, and never zero for what is there."""

import ast
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from app import ui
from app.text import escape, plain, plain_error
from core.config import PROJECT
from core.errors import InvalidInput


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (None, "—"), (0.0, "0%"), (0.00001, "<0.1%"), (0.0005, "0.1%"), (0.0123, "1.2%"), (0.0994, "9.9%"),
        (0.0996, "10%"), (0.5, "50%"), (1.0, "100%"),
    ],
)  # fmt: skip
def test_a_share_is_shown_in_percent(share: float | None, shown: str) -> None:
    assert ui.format_share(share) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(None, "—"), (0.0, "$0.0000"), (0.000021, "$0.000021"), (0.0123, "$0.0123"), (3.5, "$3.5000")],
)
def test_money_is_shown_in_dollars_with_what_a_query_costs(amount: float | None, shown: str) -> None:
    assert ui.format_usd(amount) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "size unknown"), (0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (999_940, "999.9 kB"),
        (999_960, "1.0 MB"), (3_400_000, "3.4 MB"), (2_500_000_000_000, "2500.0 GB"),
    ],
)  # fmt: skip
def test_a_size_is_shown_in_its_largest_unit(size: int | None, shown: str) -> None:
    assert ui.format_bytes(size) == shown


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=59), "just now"), (timedelta(seconds=60), "1 min ago"), (timedelta(hours=23), "23 h ago"),
        (timedelta(days=3), "3 d ago"), (-timedelta(days=2), "on 22 Nov 2026"),
    ],
)  # fmt: skip
def test_how_long_ago_is_said_in_the_largest_unit(ago: timedelta, shown: str) -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert ui.format_ago(now - ago, now=now) == shown


def test_a_time_is_the_visitors_and_utc_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "viewer_zone", lambda: "Asia/Tokyo")
    moment = datetime(2026, 11, 20, 22, 5, 9, tzinfo=UTC)
    assert (ui.format_moment(moment), ui.format_utc(moment)) == ("21 Nov 2026, 07:05", "2026-11-20 22:05:09 UTC")


# The patterns of Streamlit's Markdown that look at the text once its escapes are gone.
TRANSFORMED = re.compile(
    r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(?:\.[-\w]+)+|:material[/_]\w+:|:[\w+-]+:|(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example", "HTTP://evil.example/x", "see www.evil.example", "a.b@evil.example",
        ":material/delete:", ":smile:", ":+1:", "a -> b",
        "a <- b", "a <-> b", "a -- b", "a >= b", "a <= b", "a ~= b", "x:smile::red[y]",
    ],
)  # fmt: skip
def test_users_text_holds_nothing_that_markdown_makes_into_something_else(text: str) -> None:
    assert TRANSFORMED.search(text)
    for made in (plain(text), escape(text), plain_error(InvalidInput("name", text))):
        read = re.sub(r"\\(.)", r"\1", made)
        assert not TRANSFORMED.search(read), read
        assert read.replace("\u2060", "").endswith(text)


@pytest.mark.parametrize("show", [plain, escape, ui.chart_text])
def test_what_nobody_would_see_is_shown_and_other_scripts_stay(show: Callable[[str], str]) -> None:
    hidden = [*range(9), *range(14, 28), *range(0x80, 0x85), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E,
              0x200F, 0x200B, 0xFEFF, 0x7F]  # fmt: skip
    assert [show(f"a{chr(code)}b") for code in hidden] == ["a\ufffdb"] * len(hidden)
    for text in ("نص عربي", "می\u200cخواهم", "שלום", "👩\u200d💻", "naïve 日本語"):
        assert show(text) == text


def test_spaces_that_matter_are_kept() -> None:
    assert escape("a\n\tb  c\r\n") == "a\n\tb  c\r\n"


_LISTS, _FIELDS = {"selectbox", "multiselect"}, {"text_input", "number_input", "text_area", "date_input"}


def test_no_list_and_no_label_that_is_read_out_holds_escapes() -> None:
    """Options of lists are no Markdown, and screen readers get the labels of fields as they are."""
    found = []
    for path in [*(PROJECT / "app").rglob("*.py"), *(PROJECT / "pages").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(call, "func", None), "attr", "")
            parts: list[ast.AST] = []
            if name in _LISTS:
                parts = [each.value for each in call.keywords if each.arg == "format_func"]  # type: ignore[attr-defined]
            elif name in _FIELDS:
                parts = call.args[:1]  # type: ignore[attr-defined]
            names = {getattr(each, "id", "") for part in parts for each in ast.walk(part)}
            if names & {"plain", "escape"}:
                found.append(f"{path.name}:{getattr(call, 'lineno', 0)}")
    assert found == []
