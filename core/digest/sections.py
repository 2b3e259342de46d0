"""Rule: what a digest consists of: sections of lines, each a sentence with the page where one can look into it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from core.digest.periods import DigestPeriod, name_period
from quarterdeck.scope import DEFAULT_SERVICE, Scope

MOST_LINES = 8  # of a section; the page has all of them
LONGEST_LINE = 400  # characters
_FIRST_PAGE = "overview"  # which is at the root


@dataclass(frozen=True, slots=True)
class DigestLine:
    """One sentence, and the page with the filters of its address where it can be looked into; "" for none."""

    text: str
    page: str = ""
    filters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DigestSection:
    """A title and its lines. Without lines it says `nothing`. `left_out` lines are on the page only."""

    title: str
    lines: tuple[DigestLine, ...]
    nothing: str
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Digest:
    """A service over some days in sentences. `problems` name what could not be read.

    `is_quiet`: no question came in these days nor in those before.
    """

    scope: Scope
    period: DigestPeriod
    sections: tuple[DigestSection, ...]
    problems: tuple[str, ...] = ()
    is_quiet: bool = False

    @property
    def title(self) -> str:
        """What it is, of which service, and of which days."""
        where = self.scope.environment
        if self.scope.service != DEFAULT_SERVICE:
            where = f"{self.scope.service}, {where}"
        return f"{name_period(self.period)} of {where}: {self.period}"

    def without_links(self) -> "Digest":
        """Return it without pages, for a mail from a deck that does not know its own address."""
        sections = (replace(each, lines=tuple(DigestLine(line.text) for line in each.lines)) for each in self.sections)
        return replace(self, sections=tuple(sections))


def make_section(title: str, lines: Iterable[DigestLine], *, nothing: str) -> DigestSection:
    """Return a section of the first lines, each on one line of text and cut where it is too long."""
    listed = [replace(line, text=_shorten(line.text)) for line in lines]
    return DigestSection(title, tuple(listed[:MOST_LINES]), nothing, max(0, len(listed) - MOST_LINES))


def cut_sections(digest: Digest, most: int) -> Digest:
    """Return a digest with at most so many lines in each section."""
    sections = (
        replace(each, lines=each.lines[:most], left_out=each.left_out + max(0, len(each.lines) - most))
        for each in digest.sections
    )
    return replace(digest, sections=tuple(sections))


def make_address(line: DigestLine, scope: Scope, base: str) -> str:
    """Return the address of a line's page: under `base`, or relative to the deck's root without one; "" for no page.

    >>> make_address(DigestLine("…", "drift"), Scope("production", "chat"), "https://deck.example.org")
    'https://deck.example.org/drift?environment=production&service=chat'
    """
    if not line.page:
        return ""
    path = "" if line.page == _FIRST_PAGE else line.page
    query = urlencode([*scope._asdict().items(), *line.filters])
    return f"{base.rstrip('/')}/{path}?{query}" if base else f"{path}?{query}"


def _shorten(text: str) -> str:
    told = " ".join(text.split())
    return told if len(told) <= LONGEST_LINE else f"{told[: LONGEST_LINE - 1]}…"
