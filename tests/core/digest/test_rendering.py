"""A digest as text, Markdown, HTML and mail: whatever users wrote is text, and nothing is loaded from elsewhere."""

import email
import re
from datetime import UTC, date, datetime
from email.policy import default
from html.parser import HTMLParser

import pytest

from app.text import plain
from core.digest.mails import compose_mail, read_address
from core.digest.periods import DigestPeriod
from core.digest.rendering import MOST_BYTES, render_html, render_markdown, render_text
from core.digest.sections import LONGEST_LINE, MOST_LINES, Digest, DigestLine, make_section
from core.errors import InvalidInput
from quarterdeck.scope import Scope

HOSTILE = '<script src="https://evil.test/x.js"></script><img src=x onerror=alert(1)> [x](javascript:alert(1)) **b**'
BASE = "https://deck.example.org"
AT = datetime(2026, 11, 30, 6, tzinfo=UTC)


def make_digest(*lines: DigestLine, service: str = "answers", problems: tuple[str, ...] = ()) -> Digest:
    sections = (
        make_section("Shipped", lines, nothing="Nothing was shipped."),
        make_section("Decided", (), nothing="Nothing was decided."),
    )
    period = DigestPeriod(date(2026, 11, 23), date(2026, 11, 29))
    return Digest(Scope("production", service), period, sections, problems)


ONE = make_digest(DigestLine("x switched on.", "audit", (("entry", "7"),)), problems=("prompts: MLflow is away",))


class Reader(HTMLParser):
    """The tags of a document with their attributes, and its text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_text_has_each_address_below_its_line():
    assert render_text(ONE, base=BASE) == (
        "Weekly digest of answers, production: 23 Nov 2026 to 29 Nov 2026\n"
        "================================================================\n\n"
        "Shipped\n-------\n* x switched on.\n"
        "  https://deck.example.org/audit?environment=production&service=answers&entry=7\n\n"
        "Decided\n-------\nNothing was decided.\n\nNot read: prompts: MLflow is away\n"
    )


def test_without_the_deck_s_address_links_are_relative():
    assert "  audit?environment=production&service=answers&entry=7\n" in render_text(ONE, base="")
    assert '<a href="audit?environment=production&amp;service=answers&amp;entry=7"' in render_html(ONE, base="")
    overview = make_digest(DigestLine("corpus v2 committed.", "overview"))
    assert "  ?environment=production&service=answers\n" in render_text(overview, base="")


def test_markdown_escapes_text_and_keeps_its_own_links():
    told = render_markdown(make_digest(DigestLine(HOSTILE, "drift")), base=BASE, plain=plain, level=4)
    assert told.startswith("#### Weekly digest of answers, production")
    assert "##### Shipped" in told
    assert re.findall(r"(?<!\\)\[([^\]\\]*)\]\(([^)]*)\)", told) == [
        ("Drift", f"{BASE}/drift?environment=production&service=answers")
    ]
    assert not re.search(r"(?<!\\)<", told)


def test_html_has_inline_styles_and_loads_nothing():
    reader = Reader(render_html(make_digest(DigestLine(HOSTILE, "drift"), service=HOSTILE), base=BASE))
    assert {tag for tag, _ in reader.tags} == {
        "html", "head", "meta", "title", "body", "div", "h1", "h2", "ul", "li", "a", "p",
    }  # fmt: skip
    assert HOSTILE in reader.text
    names = {name for _, attributes in reader.tags for name in attributes}
    assert names == {"lang", "style", "charset", "name", "content", "href"}
    addresses = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert [address.startswith(f"{BASE}/drift?") for address in addresses] == [True]
    styles = " ".join(attributes.get("style") or "" for _, attributes in reader.tags)
    assert "url(" not in styles
    assert "@import" not in styles


def test_a_section_tells_how_many_lines_it_leaves_out_and_cuts_long_ones():
    section = make_section("Shipped", [DigestLine("y" * 1_000)] * (MOST_LINES + 3), nothing="")
    assert (len(section.lines), section.left_out, len(section.lines[0].text)) == (MOST_LINES, 3, LONGEST_LINE)


def test_the_longest_digest_stays_below_what_mail_programs_show():
    line = DigestLine("<" * 2_000, "coverage", (("topic", "é" * 40), ("shelf", "open")))
    sections = tuple(make_section("Shipped", [line] * 100, nothing="") for _ in range(7))
    period = DigestPeriod(date(2026, 11, 1), date(2026, 11, 30))
    digest = Digest(Scope("production", "a" * 100), period, sections, ("a problem" * 20,) * 5)
    document = render_html(digest, base="https://a-rather-long-name-of-a-deck.example.org")
    assert 80_000 < len(document.encode()) < MOST_BYTES
    assert "And 94 more." in document


def test_a_mail_has_both_parts_and_the_same_id_each_time():
    mails = [
        compose_mail(ONE, sender="deck@example.org", recipients=["a@example.org", "b@example.org"], at=AT, base=BASE)
        for _ in range(2)
    ]
    raw = mails[0].as_bytes()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 78 + 20  # RFC 5322: at most 998, at best 78
    read = email.message_from_bytes(raw, policy=default)
    assert read["Subject"] == "Weekly digest of answers, production: 23 Nov 2026 to 29 Nov 2026"
    assert (read["From"], read["To"]) == ("deck@example.org", "a@example.org, b@example.org")
    assert read.get_content_type() == "multipart/alternative"
    text, document = read.iter_parts()
    assert (text.get_content_type(), document.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content().replace("\r\n", "\n") == render_text(ONE, base=BASE)
    assert document.get_content().replace("\r\n", "\n") == render_html(ONE, base=BASE)
    assert {mail["Message-ID"] for mail in mails} == {read["Message-ID"]}
    other = compose_mail(make_digest(service="b"), sender="deck@example.org", recipients=[], at=AT, base=BASE)
    assert other["Message-ID"] != read["Message-ID"]


def test_a_mail_from_a_deck_without_an_address_has_no_links():
    mail = compose_mail(ONE, sender="deck@example.org", recipients=[], at=AT, base="")
    assert "<a" not in mail.as_string()
    assert "audit?" not in mail.as_string()


def test_a_name_of_a_service_cannot_add_a_header():
    digest = make_digest(service="a\r\nBcc: everyone@example.org")
    mail = compose_mail(digest, sender="deck@example.org", recipients=[], at=AT, base="")
    assert mail["Bcc"] is None
    assert "\n" not in mail["Subject"]


@pytest.mark.parametrize("text", ["", "team", "a@", "@b", "a@b\nBcc: c@d", "a b@c", "<a@b>", "a@b, c@d"])
def test_what_is_no_mail_address_is_refused(text):
    with pytest.raises(InvalidInput, match="address"):
        read_address(text)
