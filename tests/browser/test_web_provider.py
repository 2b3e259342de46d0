"""OpenFeature's web provider in a page of another origin: it reads flags, and hears of each flip.

The provider does not poll, so what it shows came by the event stream. The test prints how soon.
"""

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, serving

ME = Act("ada", "because")
FLIPS = 3
PAGE = """<!doctype html><title>shop</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {
  "@openfeature/core": "/node_modules/@openfeature/core/dist/esm/index.js",
  "@openfeature/web-sdk": "/node_modules/@openfeature/web-sdk/dist/esm/index.js",
  "@openfeature/ofrep-core":
    "/node_modules/@openfeature/ofrep-web-provider/node_modules/@openfeature/ofrep-core/index.esm.js",
  "@openfeature/ofrep-web-provider": "/node_modules/@openfeature/ofrep-web-provider/index.esm.js"
}}</script>
<script type="module">
  import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
  import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
  const { deck, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const client = OpenFeature.getClient();
  const show = () => { document.title = String(client.getBooleanValue('sale', false)); };
  client.addHandler(ProviderEvents.ConfigurationChanged, show);
  await OpenFeature.setContext({ targetingKey: 'user-42' });
  const headers = [['Authorization', `Bearer ${token}`]];
  await OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl: deck, headers }));
  show();
</script>"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def other_site(folder: Path) -> Iterator[str]:
    """A site of its own that serves a folder."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.browser
@pytest.mark.deep
def test_a_page_of_another_origin_reads_a_flag_and_hears_of_each_flip(
    chromium: Browser, openfeature_packages: Path, tmp_path: Path
) -> None:
    (openfeature_packages / "shop.html").write_text(PAGE)
    home = tmp_path / "home"
    home.mkdir()
    with (
        other_site(openfeature_packages) as shop,
        closing(Store(f"sqlite:///{home}/quarterdeck.db", create=True)) as store,
    ):
        create_flag(store, "sale", boolean_flag(on=True), ME)
        secret, _ = issue_token(store, "shop", [TokenScope.EVALUATE], ME)
        with serving(home, QUARTERDECK_PAGE_ORIGINS=shop) as deck:
            page = chromium.new_page()
            faults: list[str] = []
            page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
            page.goto(f"{shop}/shop.html#deck={deck.address}&token={secret}")
            page.wait_for_function("document.title === 'true'", timeout=PATIENCE_MS)
            page.wait_for_timeout(2_000)  # it opens its stream
            took_s = [flip(store, page) for _ in range(FLIPS)]
            page.close()
        assert faults == []
        print("seen after", *(f"{each:.2f} s" for each in took_s))


def flip(store: Store, page) -> float:
    """Turn the flag, and return how long it took until the page showed it."""
    flag = get_flag(store, "production", "sale")
    switch_flag(store, flag, ME, on=not flag.view.is_on)
    began = time.perf_counter()
    shown = "false" if flag.view.is_on else "true"
    page.wait_for_function(f"document.title === '{shown}'", timeout=PATIENCE_MS)
    return time.perf_counter() - began
