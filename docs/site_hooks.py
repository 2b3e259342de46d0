"""Hooks of mkdocs: files of the checkout's top folder become pages of the site, and links between the two are kept.

On GitHub a guide links to `../SECURITY.md`; the site has the same page at `security-policy.md`.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parents[1]
TOP_PAGES = {name: f"{name.lower()}" for name in ("STYLE.md", "CHANGELOG.md", "CONTRIBUTING.md")}
TOP_PAGES["SECURITY.md"] = "security-policy.md"
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

    return _LINK.sub(place, markdown)
