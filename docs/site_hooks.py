"""Hooks of mkdocs: files of the checkout's top folder become pages of the site, and links between the two are kept.

On GitHub a guide links to `../SECURITY.md`; the site has the same page at `security-policy.md`. For programs that read
docs, the site has each page as Markdown too, at its own path, and a list of them in `llms.txt` (llmstxt.org).
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[1]
TOP_PAGES = {name: f"{name.lower()}" for name in ("STYLE.md", "CHANGELOG.md", "CONTRIBUTING.md")}
TOP_PAGES["SECURITY.md"] = "security-policy.md"
_WRITTEN: dict[str, str] = {}  # of the build that is going on: each page's Markdown by its path
_SECTIONS: list[tuple[str, list[Page]]] = []
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+\.md)(?P<anchor>#[^)\s]*)?(?=\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of the top folder that there are."""
    for name, uri in TOP_PAGES.items():
        if (PROJECT / name).exists():
            files.append(File.generated(config, uri, content=(PROJECT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_others: Any) -> str:
    """Point the links of a page to where the site has what they lead to."""
    uri = page.file.src_uri
    written_in = PurePosixPath("") if uri in TOP_PAGES.values() else PurePosixPath("docs", uri).parent

    def place(found: re.Match[str]) -> str:
        target = os.path.normpath(written_in / found["path"])
        target = TOP_PAGES.get(target, target.removeprefix("docs/"))
        return os.path.relpath(target, PurePosixPath(uri).parent) + (found["anchor"] or "")

    placed = _LINK.sub(place, markdown)
    _WRITTEN[uri] = placed
    return placed


def on_nav(nav: Navigation, **_others: Any) -> Navigation:
    """Keep the order of the pages."""
    _WRITTEN.clear()
    _SECTIONS[:] = [(each.title, list(_list_pages(each))) for each in nav.items if isinstance(each, Section)]
    return nav


def on_post_build(*, config: MkDocsConfig) -> None:
    """Write every page as Markdown beside it, and the list of them."""
    site = Path(config.site_dir)
    for uri, markdown in _WRITTEN.items():
        (site / uri).parent.mkdir(parents=True, exist_ok=True)
        (site / uri).write_text(markdown, encoding="utf-8")
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for title, pages in _SECTIONS:
        lines += [f"## {title}", "", *(f"- [{page.title}]({page.file.src_uri})" for page in pages), ""]
    (site / "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def _list_pages(section: Section) -> Iterator[Page]:
    for each in section.children:
        if isinstance(each, Section):
            yield from _list_pages(each)
        elif isinstance(each, Page):
            yield each
