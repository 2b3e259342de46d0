"""Middleware that tells browsers, with a page, which of Streamlit's scripts its charts and tables will need.

Streamlit asks for the script of an element once it knows that there is one. Plotly's is the largest by far; with the
`Link` header a browser reads and compiles it while the page is still being computed.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CHART, _TABLE = "PlotlyChart", "DataFrame"
NEEDED = {
    "": (_CHART,), "overview": (_CHART,), "drift": (_CHART,), "coverage": (_CHART, _TABLE), "prompts": (_CHART,),
    "questions": (_TABLE,), "corpus": (_CHART, _TABLE), "rollouts": (_TABLE,), "ledger": (_CHART, _TABLE),
    "audit": (_TABLE,),
}  # fmt: skip


@dataclass(frozen=True)
class Preloading:
    """Adds the `Link` header to answers that are pages."""

    app: ASGIApp
    base: str
    links: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Find the scripts of the Streamlit that is installed."""
        links = {page: write_links(names, self.base).encode() for page, names in NEEDED.items()}
        object.__setattr__(self, "links", links)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        link = self.links.get(scope["path"].strip("/"), b"") if scope["type"] == "http" else b""
        if not link:
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                message = {**message, "headers": [*message.get("headers", []), (b"link", link)]}
            await send(message)

        await self.app(scope, receive, answer)


def write_links(names: tuple[str, ...], base: str) -> str:
    """Return the value of the header for the scripts of some elements; "" for those that this Streamlit has not."""
    found = [
        f"<{base}/static/js/{script}>; rel=modulepreload; crossorigin" for script in map(find_script, names) if script
    ]
    return ", ".join(found)


@cache
def find_script(name: str) -> str:
    """Return the file name of an element's script, which holds a hash; "" if there is not exactly one."""
    import streamlit

    found = list((Path(streamlit.__file__).parent / "static" / "static" / "js").glob(f"{name}.*.js"))
    return found[0].name if len(found) == 1 else ""


def _is_page(message: Message) -> bool:
    kinds = [value for name, value in message.get("headers", []) if name.lower() == b"content-type"]
    return message["status"] == 200 and any(kind.startswith(b"text/html") for kind in kinds)
