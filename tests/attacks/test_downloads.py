"""A visitor signs out or loses a role while a page is open: what the page can still fetch and show."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, TimeoutError

from core.access.roles import grant_role, revoke_role
from core.audit.acts import Act
from core.audit.permissions import Grant, Role, Roles, combine_grants, list_readable
from core.audit.trail import AuditFilter, count_audit, list_audit, list_audit_values
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.attacks.conftest import fill_home
from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_sign_in import COOKIE_SECRET, enter, find_port, run_server, wait_until_drawn
from tests.conftest import PROJECT
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, run_provider

SETUP = Act("setup", "before the test")
REFUSED_WITHIN_MS = 5_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store, Path]]:
    """A deck that asks for a login, its store and its home."""
    home, port = tmp_path_factory.mktemp("signed") / "home", find_port()
    fill_home(home)
    store = Store(f"sqlite:///{home / 'quarterdeck.db'}")
    for environment in ("production", "staging"):
        create_flag(store, f"of-{environment}", boolean_flag(on=True), Act("ada", f"in {environment}", environment))
    with run_provider(f"http://127.0.0.1:{port}/oauth2callback") as provider:
        settings = {
            "QUARTERDECK_OIDC_METADATA_URL": provider.metadata_url, "QUARTERDECK_OIDC_CLIENT_ID": CLIENT_ID,
            "QUARTERDECK_OIDC_CLIENT_SECRET": CLIENT_SECRET, "QUARTERDECK_COOKIE_SECRET": COOKIE_SECRET,
            "QUARTERDECK_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }  # fmt: skip
        with run_server(home, port, **settings) as server:
            yield server.address, store, home
    store.close()


def fetch(page: Page) -> str:
    """Press the button of the CSV; return the file."""
    with page.expect_download() as downloading:
        page.get_by_role("button", name=re.compile("All .* as CSV")).first.click()
    return Path(downloading.value.path()).read_text()


def is_refused(page: Page) -> bool:
    try:
        with page.expect_download(timeout=REFUSED_WITHIN_MS):
            page.get_by_role("button", name=re.compile("All .* as CSV")).first.click()
    except TimeoutError:
        return True
    return False


@pytest.mark.deep
@pytest.mark.browser
def test_a_page_that_stands_open_fetches_nothing_after_the_role_is_gone_or_the_visitor_signed_out(
    signed: tuple[str, Store, Path], chromium: Browser
) -> None:
    address, store, _ = signed
    grant_role(store, Grant("eve@example.org", Role.VIEWER, "staging"), SETUP)
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = enter(context, address, "eve")
    page.goto(f"{address}/audit?environment=staging")
    wait_until_drawn(page)
    text = fetch(page)
    assert "of-staging" in text
    assert "of-production" not in text
    assert "of-production" not in page.content()

    revoke_role(store, "eve@example.org", "staging", SETUP)
    assert is_refused(page)

    grant_role(store, Grant("eve@example.org", Role.VIEWER, "staging"), SETUP)
    page.goto(f"{address}/audit?environment=staging")
    wait_until_drawn(page)
    other = context.new_page()
    other.goto(f"{address}/audit?environment=staging")
    wait_until_drawn(other)
    other.get_by_test_id("stSidebar").get_by_role("button", name="Sign out").click()
    other.get_by_text("Nobody is signed in").first.wait_for()
    assert is_refused(page)
    context.close()


def test_every_file_of_the_pages_is_offered_by_the_module_that_asks_again() -> None:
    offering = [
        path.relative_to(PROJECT).as_posix()
        for folder in ("app", "pages")
        for path in (PROJECT / folder).rglob("*.py")
        if "download_button(" in path.read_text(encoding="utf-8")
    ]
    assert offering == ["app/downloads.py"]


@pytest.mark.parametrize(
    ("roles", "readable"),
    [
        (Roles((("staging", Role.VIEWER),)), ("staging",)),
        (Roles((("staging", Role.ADMIN), ("test", Role.VIEWER))), ("staging", "test")),
        (Roles((("*", Role.VIEWER), ("staging", Role.ADMIN))), None),
        (Roles(), ()),
    ],
)
def test_entries_are_read_where_a_role_is_held(roles: Roles, readable: tuple[str, ...] | None) -> None:
    assert list_readable(roles) == readable


@pytest.mark.sqlite_only("the filter is a condition of SQL")
def test_a_viewer_of_one_environment_reads_no_entry_of_another(store: Store) -> None:
    for environment in ("production", "staging"):
        create_flag(store, f"of-{environment}", boolean_flag(on=True), Act("ada", "because", environment))
    grant_role(store, Grant("eve", Role.VIEWER, "staging"), SETUP)
    grant_role(store, Grant("bo", Role.VIEWER), SETUP)
    among = list_readable(combine_grants([Grant("eve", Role.VIEWER, "staging")], "eve"))
    found = list_audit(store, AuditFilter(among=among))
    assert {entry.environment for entry in found} == {"staging"}
    assert count_audit(store, AuditFilter(among=among)) == len(found) == 2
    assert list_audit_values(store, "environment", among=among) == ("staging",)
    assert list_audit(store, AuditFilter(among=among, environment="production")) == ()
    assert set(list_audit_values(store, "environment")) == {"*", "production", "staging"}
    assert list_audit(store, AuditFilter(among=())) == ()
