"""Middleware that answers with the empty page that a browser opens: Streamlit's, with the deck's style and hints.

Streamlit sends styles and the sidebar over its socket, so they come late and everything that is drawn already moves.
The style stands in the page itself, and keeps the sidebar's place. The browser is told at once which parts of
Streamlit's scripts it will need: by itself it asks for each once it is to be drawn, and the one of charts is large.
"""

import re
from functools import cache
from pathlib import Path

from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.navigation import TITLES, path_of

STYLE = Path(__file__).parents[1] / "style.css"
_FIRST = f"/{next(iter(TITLES))}"  # Streamlit knows the first page at the root alone
_PATHS = {f"/{path_of(page)}" for page in TITLES}
# Streamlit's scripts of what the pages draw first.
_DRAWN = (
    "Button", "PageLink", "Html", "Selectbox", "TextInput", "ButtonGroup", "Checkbox", "DownloadButton", "DataFrame",
    "PlotlyChart",
)  # fmt: skip
_IMPORTED = re.compile(r'from"\./([\w.-]+\.js)"')
_HEAD_CHARACTERS = 8_000  # of a script; its imports stand first


class Opening:
    """Answers for each page, leads from the first one's name to the root, and passes everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page, or pass the request on."""
        is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if is_read and scope["path"] in _PATHS:
            await HTMLResponse(read_page(), headers={"cache-control": "no-cache"})(scope, receive, send)
        elif is_read and scope["path"] == _FIRST:
            query = scope["query_string"].decode("latin-1")
            await RedirectResponse(f"./?{query}" if query else "./")(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@cache
def read_page() -> str:
    """Return Streamlit's page with the style and the hints."""
    from streamlit.file_util import get_static_dir

    static = Path(get_static_dir())
    page, scripts = (static / "index.html").read_text(encoding="utf-8"), static / "static" / "js"
    named = _list_scripts(scripts, page)
    hints = [f'<link rel="modulepreload" crossorigin href="./static/js/{name}">' for name in named]
    style = f"<style>{STYLE.read_text(encoding='utf-8')}</style>"  # in the body: after the styles that Streamlit adds
    return page.replace("</head>", "\n".join([*hints, "</head>"]), 1).replace("</body>", f"{style}\n</body>", 1)


def _list_scripts(scripts: Path, page: str) -> list[str]:
    """The scripts of what is drawn first and all that they import, but for those that the page names already."""
    found: dict[str, None] = {}
    open_ends = [path.name for each in _DRAWN for path in scripts.glob(f"{each}.*.js")]
    while open_ends:
        name = open_ends.pop(0)
        if name not in found and name not in page:
            found[name] = None
            with (scripts / name).open(encoding="utf-8") as script:
                open_ends += _IMPORTED.findall(script.read(_HEAD_CHARACTERS))
    return list(found)
