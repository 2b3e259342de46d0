"""Rule: a digest as Markdown, plain text and HTML. The HTML is for mails: inline styles, no script, nothing loaded."""

from collections.abc import Callable, Iterator
from html import escape

from core.digest.sections import MOST_LINES, Digest, DigestLine, DigestSection, cut_sections, make_address

MOST_BYTES = 100_000  # mail programs cut off what is longer
# Each color twice: what mail programs without `light-dark()` keep, then the pair for a light and a dark screen.
_TEXT = "color:#1f2937;color:light-dark(#1f2937,#e5e7eb)"
_QUIET = "color:#5b6472;color:light-dark(#5b6472,#a3adbb)"
_LINK = "color:#1d4ed8;color:light-dark(#1d4ed8,#93b4ff)"
_PAGE = "background:#ffffff;background:light-dark(#ffffff,#11161d)"
_RULE = "border-top:1px solid #d7dce3;border-top-color:light-dark(#d7dce3,#2c3541)"
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"


def render_text(digest: Digest, *, base: str) -> str:
    """Return a digest as plain text, with each line's address below it. `base` is the deck's address, "" if unknown."""
    parts = [digest.title, "=" * min(len(digest.title), 72), ""]
    for section in digest.sections:
        parts += [section.title, "-" * len(section.title)]
        for line in section.lines:
            parts.append(f"* {line.text}")
            address = make_address(line, digest.scope, base)
            parts += [f"  {address}"] if address else []
        parts += [*_say_rest(section), ""]
    parts += [f"Not read: {problem}" for problem in digest.problems]
    return "\n".join(parts).rstrip("\n") + "\n"


def render_markdown(digest: Digest, *, base: str, plain: Callable[[str], str], level: int = 1) -> str:
    """Return a digest as Markdown whose first heading has this level; `plain` escapes text for Markdown."""
    parts = [f"{'#' * level} {plain(digest.title)}", ""]
    for section in digest.sections:
        parts += [f"{'#' * (level + 1)} {plain(section.title)}", ""]
        for line in section.lines:
            address = make_address(line, digest.scope, base)
            more = f" [{_name_page(line)}]({_quote(address)})" if address else ""
            parts.append(f"- {plain(line.text)}{more}")
        parts += [*(plain(each) for each in _say_rest(section)), ""]
    parts += [f"- {plain(f'Not read: {problem}')}" for problem in digest.problems]
    return "\n".join(parts).rstrip("\n") + "\n"


def render_html(digest: Digest, *, base: str) -> str:
    """Return a digest as one HTML document of less than `MOST_BYTES`; sections are cut where it would be longer."""
    for most in range(MOST_LINES, -1, -1):
        document = _write_document(cut_sections(digest, most), base)
        if len(document.encode()) < MOST_BYTES:
            break
    return document


def _write_document(digest: Digest, base: str) -> str:
    title = escape(digest.title)
    body = "".join(_write_section(section, digest, base) for section in digest.sections)
    body += "".join(f'<p style="{_QUIET};font-size:14px">Not read: {escape(each)}</p>' for each in digest.problems)
    return (
        '<!DOCTYPE html>\n<html lang="en" style="color-scheme:light dark"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title></head>'
        f'<body style="margin:0;padding:16px;{_PAGE};{_TEXT};{_FONT};font-size:16px;line-height:1.5">'
        '<div style="max-width:600px;margin:0 auto;overflow-wrap:anywhere">'
        f'<h1 style="font-size:22px;line-height:1.3;margin:0 0 16px">{title}</h1>{body}</div></body></html>\n'
    )


def _write_section(section: DigestSection, digest: Digest, base: str) -> str:
    items = "".join(
        f'<li style="margin:0 0 8px">{escape(line.text)}{_write_link(line, digest, base)}</li>'
        for line in section.lines
    )
    listed = f'<ul style="margin:0;padding:0 0 0 20px">{items}</ul>' if items else ""
    rest = "".join(f'<p style="margin:0;{_QUIET}">{escape(each)}</p>' for each in _say_rest(section))
    return (
        f'<div style="{_RULE};padding:12px 0 16px"><h2 style="font-size:17px;margin:0 0 8px">{escape(section.title)}'
        f"</h2>{listed}{rest}</div>"
    )


def _write_link(line: DigestLine, digest: Digest, base: str) -> str:
    address = make_address(line, digest.scope, base)
    if not address:
        return ""
    return f' <a href="{escape(address)}" style="{_LINK};white-space:nowrap">{_name_page(line)}</a>'


def _name_page(line: DigestLine) -> str:
    return line.page.capitalize()


def _quote(address: str) -> str:
    """Return an address that ends no Markdown link early."""
    return address.replace("(", "%28").replace(")", "%29").replace(" ", "%20")


def _say_rest(section: DigestSection) -> Iterator[str]:
    if not section.lines and not section.left_out:
        yield section.nothing
    if section.left_out:
        yield f"And {section.left_out:,} more."
