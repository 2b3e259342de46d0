"""A running server that is attacked, over a home of its own: one for all tests, others under settings of a test."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.browser.conftest import serving

ACT = Act("ada", "setting the scene")


@dataclass(frozen=True)
class Target:
    """A running server: where it answers, its home, its tokens by scope, and what it wrote about itself."""

    address: str
    home: Path
    tokens: dict[str, str]

    @property
    def log(self) -> str:
        return (self.home / "serve.log").read_text(errors="replace")

    @property
    def url(self) -> str:
        return f"sqlite:///{self.home / 'quarterdeck.db'}"

    def authorize(self, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[scope]}"}

    def post(self, path: str, content: bytes, *, scope: str = "ingest", **headers: str) -> httpx.Response:
        """Send a body as a service with a token does."""
        given = {"Content-Type": "application/json", **self.authorize(scope), **headers}
        return httpx.post(f"{self.address}{path}", content=content, headers=given, timeout=120)


def fill_home(home: Path) -> dict[str, str]:
    """Make a store with a flag and a token of each scope."""
    home.mkdir(parents=True, exist_ok=True)
    with closing(Store(f"sqlite:///{home / 'quarterdeck.db'}", create=True)) as store:
        create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
        return {str(scope): issue_token(store, str(scope), [scope], ACT)[0] for scope in TokenScope}


@contextmanager
def attacking(home: Path, **settings: str) -> Iterator[Target]:
    """Serve a home by a process of its own."""
    tokens = fill_home(home) if not (home / "quarterdeck.db").exists() else {}
    with serving(home, **settings) as server:
        yield Target(server.address, home, tokens)


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server whose log is for people."""
    with attacking(tmp_path_factory.mktemp("attacked") / "home", QUARTERDECK_LOG_LEVEL="info") as running:
        yield running
