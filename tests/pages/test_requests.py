"""The change requests on the rollouts page."""

import json
from dataclasses import replace

import pytest

import app.visitor
from core.access.identity import Person
from core.access.roles import grant_role
from core.approvals.operations import set_policy
from core.approvals.requests import get_request
from core.audit.acts import Act
from core.audit.gate import Origin, Policy
from core.audit.permissions import Grant, Role
from core.errors import ApprovalNeeded
from core.flags.operations import change_rollout, create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.store import Store
from tests.pages.opening import only_error, open_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sqlite_only("it is about the page"),
    pytest.mark.usefixtures("clean_streamlit"),
]
ADA = Act("ada", "half of the users", origin=Origin.PERSON)


@pytest.fixture
def waiting(empty_url: str, store: Store) -> Store:
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), ADA)
    for name in ("ada", "bob"):
        grant_role(store, Grant(name, Role.ADMIN), Act("setup", "a test"))
    set_policy(store, Policy(required=True), ADA, has_sign_in=True)
    with pytest.raises(ApprovalNeeded):
        change_rollout(store, get_flag(store, "production", "use_hyde"), 50, ADA)
    return store


def sign_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody be this person, as the proxy would say."""
    monkeypatch.setenv("QUARTERDECK_PROXY_USER_HEADER", "X-Forwarded-Email")
    monkeypatch.setenv("QUARTERDECK_PROXY_ADDRESSES", "127.0.0.1")
    monkeypatch.setattr(app.visitor, "_find_person", lambda _access: Person(name))


def pct(store: Store) -> float | None:
    return rollout_pct(get_flag(store, "production", "use_hyde").definition)


@pytest.mark.deep
def test_without_a_sign_in_the_page_says_why_nothing_can_be_required(empty_url: str) -> None:
    page = open_page("rollouts", tab="Requests")
    assert not page.exception
    assert "cannot be required without a sign" in " ".join(each.value for each in page.info)
    assert next(each for each in page.button if each.label == "Save").disabled


def test_another_person_sees_the_difference_and_approves(waiting: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in("bob", monkeypatch)
    page = open_page("rollouts", tab="Requests")
    assert not page.exception
    assert "need a second person; 1 change waits." in " ".join(each.value for each in page.markdown)
    assert any("-" in each.value and "10000" in each.value and "50000" in each.value for each in page.code)
    next(each for each in page.button if each.label == "Approve").click().run()
    assert "reason: is empty" in only_error(page)
    page.text_input(key="request-1-reason").set_value("looked at it")
    next(each for each in page.button if each.label == "Approve").click().run()
    assert not page.exception
    assert pct(waiting) == 50
    assert "no change waits" in " ".join(each.value for each in page.markdown)


@pytest.mark.deep
def test_whoever_asked_can_withdraw_and_not_approve(waiting: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in("ada", monkeypatch)
    page = open_page("rollouts", tab="Requests")
    assert next(each for each in page.button if each.label == "Approve").disabled
    page.text_input(key="request-1-reason").set_value("not needed")
    next(each for each in page.button if each.label == "Withdraw").click().run()
    assert not page.exception
    assert "no change waits" in " ".join(each.value for each in page.markdown)
    assert pct(waiting) == 10


@pytest.mark.deep
def test_what_a_request_would_make_of_a_flag_is_edited(waiting: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in("bob", monkeypatch)
    page = open_page("rollouts", tab="Requests")
    key = "amend-1-1-use_hyde"
    page.text_area(key=f"{key}-text").set_value(json.dumps(boolean_flag(on=True, rollout_pct=20)))
    page.text_input(key=f"{key}-reason").set_value("20% first")
    next(each for each in page.button if each.label == "Save the edit").click().run()
    assert not page.exception
    request = get_request(waiting, 1)
    assert (request.editor, request.version) == ("bob", 2)
    assert next(each for each in page.button if each.label == "Approve").disabled
    assert pct(waiting) == 10


@pytest.mark.deep
def test_what_an_assistant_proposed_says_so_and_its_reason_is_text(
    empty_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), ADA)
    reason = "**approved** by [root](https://evil.example) <b>now</b>"
    with pytest.raises(ApprovalNeeded):
        bot = replace(ADA, reason=reason, assistant="token:bot")
        change_rollout(store, get_flag(store, "production", "use_hyde"), 50, bot)
    sign_in("bob", monkeypatch)
    grant_role(store, Grant("bob", Role.EDITOR), Act("setup", "a test"))
    page = open_page("rollouts", tab="Requests")
    assert not page.exception
    assert [each.value for each in page.text] == [reason]
    said = " ".join(each.value for each in page.markdown)
    assert "an assistant over MCP \\(token" in said and "for ada" in said and "evil" not in said
    assert "may do it alone; 1 change waits" in said
    assert any("A language model wrote the reason below." in each.value for each in page.caption)
    page.text_input(key="request-1-reason").set_value("looked at it")
    next(each for each in page.button if each.label == "Approve").click().run()
    assert not page.exception
    assert (pct(store), get_request(store, 1).state) == (50, "applied")


@pytest.mark.deep
def test_without_a_sign_in_the_operator_approves_what_an_assistant_proposed(empty_url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), ADA)
    with pytest.raises(ApprovalNeeded):
        bot = Act("operator", "half of the users", assistant="operator")
        change_rollout(store, get_flag(store, "production", "use_hyde"), 50, bot)
    page = open_page("rollouts", tab="Requests")
    page.text_input(key="request-1-reason").set_value("looked at it")
    next(each for each in page.button if each.label == "Approve").click().run()
    assert not page.exception
    assert pct(store) == 50
