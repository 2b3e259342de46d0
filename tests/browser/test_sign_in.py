"""Signing in with a real OpenID provider in a real browser: roles, what they lock, and the end of the session."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from core.access.roles import grant_role, revoke_role
from core.audit.acts import Act
from core.audit.permissions import Grant, Role
from core.audit.trail import list_audit
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, _wait_until_healthy
from tests.conftest import Demo, copy_home
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, run_provider

COOKIE_SECRET = "a-cookie-secret-of-more-than-32-letters"
SETUP = Act("setup", "before the test")
KNOWN_FOR_MS = 2_500  # roles and ended sessions are kept for two seconds

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]


@contextmanager
def run_server(home: Path, port: int, **settings: str) -> Iterator[Server]:
    """The deck in a process of its own under other settings; its log is `home / serve.log`."""
    program = Path(sys.executable).with_name("quarterdeck")
    with (home / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [program, "serve", "--port", str(port)],
            env={**os.environ, "QUARTERDECK_HOME": str(home), **settings},
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}", process, home / "serve.log")
            yield Server(f"http://127.0.0.1:{port}", f"sqlite:///{home / 'quarterdeck.db'}")
        finally:
            process.terminate()
            process.wait(30)


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def home(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("signed") / "home"
    copy_home(demo.config.home, target)
    return target


@pytest.fixture(scope="module")
def signed(home: Path) -> Iterator[tuple[Server, Provider]]:
    """A deck that asks for a login, and the provider it asks."""
    port = find_port()
    with run_provider(f"http://127.0.0.1:{port}/oauth2callback") as provider:
        settings = {
            "QUARTERDECK_OIDC_METADATA_URL": provider.metadata_url, "QUARTERDECK_OIDC_CLIENT_ID": CLIENT_ID,
            "QUARTERDECK_OIDC_CLIENT_SECRET": CLIENT_SECRET, "QUARTERDECK_COOKIE_SECRET": COOKIE_SECRET,
            "QUARTERDECK_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }  # fmt: skip
        with run_server(home, port, **settings) as server:
            yield server, provider


@pytest.fixture
def store(signed: tuple[Server, Provider]) -> Iterator[Store]:
    opened = Store(signed[0].database_url)
    yield opened
    opened.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    opened = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    opened.close()


def enter(context: BrowserContext, address: str, person: str) -> Page:
    """Sign in as somebody; return the tab, back at the deck."""
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name=person, exact=True).click()
    page.wait_for_url(f"{address}/**")
    page.locator("h4").first.wait_for()
    return page


def wait_until_drawn(page: Page) -> Page:
    page.locator("h4").first.wait_for()
    page.locator('[data-test-script-state="notRunning"]').wait_for()
    return page


def named(sentence: str) -> re.Pattern[str]:
    """Return a pattern of a sentence in which an address may hold the joiner that keeps it from becoming a link."""
    return re.compile(re.escape(sentence).replace("@", "@\u2060?"))


def test_nobody_sees_a_page_before_signing_in(signed: tuple[Server, Provider], context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{signed[0].address}/rollouts")
    expect(page.locator("h4").first).to_have_text("Nobody is signed in.", timeout=PATIENCE_MS)
    assert page.get_by_test_id("stSidebarNavLink").count() == 0
    assert page.get_by_test_id("stDataFrame").count() == 0


def test_a_person_signs_in_changes_what_the_role_allows_and_is_out_after_signing_out(
    signed: tuple[Server, Provider], context: BrowserContext, store: Store, home: Path
) -> None:
    server, provider = signed
    page = enter(context, server.address, "ada")
    expect(page.locator("h4").first).to_contain_text(
        named("You are ada@example.org, and you have no role in production")
    )
    grant_role(store, Grant("group:rag-team", Role.EDITOR), SETUP)
    page.wait_for_timeout(KNOWN_FOR_MS)
    page.goto(f"{server.address}/rollouts?flag=use_hyde")
    wait_until_drawn(page)
    expect(page.get_by_test_id("stSidebar")).to_contain_text(named("You are ada@example.org, here as editor"))
    page.get_by_text("On", exact=True).click()
    form = page.get_by_test_id("stForm").filter(has_text="Save")
    form.get_by_label("Reason").fill("signed in as ada")
    form.get_by_role("textbox", name="Name of the flag").fill("use_hyde")
    form.get_by_role("button", name="Save").click()
    page.get_by_text("Recorded as audit entry").wait_for()
    newest = list_audit(store, limit=1)[0]
    assert (newest.actor, newest.action, newest.reason) == ("ada@example.org", "flag.update", "signed in as ada")

    stolen = context.cookies()
    other = context.new_page()
    other.goto(f"{server.address}/rollouts")
    wait_until_drawn(other)
    page.get_by_test_id("stSidebar").get_by_role("button", name="Sign out").click()
    expect(page.locator("h4").first).to_have_text("Nobody is signed in.", timeout=PATIENCE_MS)
    assert len(provider.signed_out) == 1 and provider.signed_out[0].count(".") == 2
    other.wait_for_timeout(KNOWN_FOR_MS)
    other.get_by_role("button", name="Kill switch").click()
    expect(other.locator("h4").first).to_have_text("You signed out; sign in again.", timeout=PATIENCE_MS)
    assert list_audit(store, limit=1)[0].entry_id == newest.entry_id

    context.clear_cookies()
    context.add_cookies(stolen)
    again = context.new_page()
    again.goto(f"{server.address}/rollouts")
    expect(again.locator("h4").first).to_have_text("You signed out; sign in again.", timeout=PATIENCE_MS)
    said = (home / "serve.log").read_text()
    assert [secret for secret in (CLIENT_SECRET, COOKIE_SECRET, *(c["value"] for c in stolen)) if secret in said] == []


def test_a_viewer_finds_the_switches_locked_and_a_role_taken_away_closes_the_page(
    signed: tuple[Server, Provider], context: BrowserContext, store: Store
) -> None:
    grant_role(store, Grant("eve@example.org", Role.VIEWER, "production"), SETUP)
    time.sleep(KNOWN_FOR_MS / 1_000)
    page = enter(context, signed[0].address, "eve")
    page.goto(f"{signed[0].address}/rollouts?flag=use_reranker")
    wait_until_drawn(page)
    expect(page.get_by_test_id("stSidebar")).to_contain_text("here as viewer")
    assert page.get_by_role("button", name="Kill switch").is_disabled()
    page.get_by_text("On", exact=True).click()  # everybody may preview a change
    expect(page.get_by_role("button", name="Save")).to_be_disabled(timeout=PATIENCE_MS)
    revoke_role(store, "eve@example.org", "production", SETUP)
    page.wait_for_timeout(KNOWN_FOR_MS)
    page.goto(f"{signed[0].address}/rollouts")
    expect(page.locator("h4").first).to_contain_text("you have no role", timeout=PATIENCE_MS)


def test_an_address_that_the_provider_did_not_verify_opens_nothing(
    signed: tuple[Server, Provider], context: BrowserContext, store: Store
) -> None:
    grant_role(store, Grant("ada@example.org", Role.ADMIN), SETUP)
    page = enter(context, signed[0].address, "mallory")
    expect(page.locator("h4").first).to_contain_text("has not verified your e-mail address")


def test_a_cookie_of_another_signature_is_nobodys(signed: tuple[Server, Provider], context: BrowserContext) -> None:
    enter(context, signed[0].address, "ada")
    kept = [cookie for cookie in context.cookies() if cookie["name"].startswith("_streamlit_user")]
    assert kept
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in kept)
    context.clear_cookies()
    context.add_cookies([cookie | {"value": cookie["value"][:-4] + "abcd"} for cookie in kept])
    page = context.new_page()
    page.goto(signed[0].address)
    expect(page.locator("h4").first).to_have_text("Nobody is signed in.", timeout=PATIENCE_MS)


def test_behind_a_proxy_its_header_names_the_visitor(home: Path, chromium: Browser) -> None:
    port = find_port()
    settings = {"QUARTERDECK_PROXY_USER_HEADER": "X-Forwarded-Email", "QUARTERDECK_PROXY_ADDRESSES": "127.0.0.1"}
    with run_server(home, port, **settings) as server:
        store = Store(server.database_url)
        grant_role(store, Grant("bob@example.org", Role.VIEWER), SETUP)
        store.close()
        for headers, sentence in (
            ({"X-Forwarded-Email": "bob@example.org"}, "flags"), ({}, "The proxy named no user")
        ):  # fmt: skip
            with chromium.new_context(extra_http_headers=headers) as context:
                page = context.new_page()
                page.goto(f"{server.address}/rollouts")
                expect(page.locator("h4").first).to_contain_text(sentence, timeout=PATIENCE_MS)
                if headers:
                    expect(page.get_by_test_id("stSidebar")).to_contain_text(named("bob@example.org, here as viewer"))


def test_serving_beyond_this_machine_without_a_login_is_refused_in_one_line(home: Path) -> None:
    program = Path(sys.executable).with_name("quarterdeck")
    done = subprocess.run(
        [program, "serve", "--host", "0.0.0.0", "--port", str(find_port())],
        env={**os.environ, "QUARTERDECK_HOME": str(home)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("quarterdeck: host: 0.0.0.0 lets other machines in without a sign-in")
    assert done.stderr.count("\n") == 1


def test_every_answer_carries_the_security_headers(signed: tuple[Server, Provider]) -> None:
    for path in ("/", "/rollouts", "/healthz", "/_stcore/health", "/no/such/thing.js"):
        answer = httpx2.get(f"{signed[0].address}{path}")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
