"""People and roles on the rollouts page: who may change alone, who needs a second person, and the form for roles."""

import pytest

from core.access.roles import grant_role, list_grants, revoke_role
from core.approvals.operations import set_policy
from core.approvals.people import list_held_roles
from core.audit.acts import Act
from core.audit.gate import Origin, Policy
from core.audit.permissions import EVERYWHERE, Grant, Role
from core.audit.trail import AuditFilter, list_audit
from quarterdeck.store import Store
from tests.pages.opening import only_error, open_page, text_of
from tests.pages.test_requests import sign_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sqlite_only("it is about the page"),
    pytest.mark.usefixtures("clean_streamlit"),
]
SETUP = Act("setup", "a test")
ADA = Act("ada", "a second person", origin=Origin.PERSON)


@pytest.fixture
def team(empty_url: str, store: Store) -> Store:
    for grant in (
        Grant("ada", Role.ADMIN), Grant("bob", Role.EDITOR, "production"), Grant("Bob", Role.VIEWER),
        Grant("carol", Role.VIEWER, "production", questions=False), Grant("group:ops", Role.EDITOR),
        Grant("dan", Role.EDITOR, "staging"),
    ):  # fmt: skip
        grant_role(store, grant, SETUP)
    set_policy(store, Policy(required=True, alone=("admins", "erin")), ADA, has_sign_in=True)
    return store


def test_everybody_of_an_environment_is_listed_with_whether_they_may_change_alone(team: Store) -> None:
    found = {
        each.who: (each.role, each.place, each.may_change, each.alone) for each in list_held_roles(team, "production")
    }
    assert found == {
        "ada": (Role.ADMIN, EVERYWHERE, True, True),
        "bob": (Role.EDITOR, "production", True, False),
        "carol": (Role.VIEWER, "production", False, False),
        "erin": (None, "production", True, True),
        "group:ops": (Role.EDITOR, EVERYWHERE, True, False),
    }
    elsewhere = {each.who: each.alone for each in list_held_roles(team, "staging") if each.may_change}
    assert elsewhere == {"ada": True, "dan": True, "group:ops": True}


def test_the_page_shows_who_may_change_alone_and_who_needs_a_second_person(
    team: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in("carol", monkeypatch)
    page = open_page("rollouts", tab="Requests")
    assert not page.exception
    said = " ".join(text_of(each.value) for each in page.markdown)
    assert "4 names may change production, 2 of them only with a second person." in said
    (table,) = [each.value for each in page.dataframe if "changes" in each.value]
    assert dict(zip(table["who"], table["changes"], strict=True)) == {
        "ada": "alone", "bob": "with a second person", "carol": "no", "erin": "alone",
        "group:ops": "with a second person",
    }  # fmt: skip
    assert next(each for each in page.button if each.label == "Save the role").disabled


def test_an_admin_gives_and_takes_a_role_with_a_reason(team: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in("ada", monkeypatch)
    page = open_page("rollouts", tab="Requests")
    save = next(each for each in page.button if each.label == "Save the role")
    page.text_input(key="role-who").set_value("frank")
    page.selectbox(key="role-role").set_value("editor")
    save.click().run()
    assert "reason: is empty" in only_error(page)
    page.text_input(key="role-reason").set_value("joins the team")
    next(each for each in page.button if each.label == "Save the role").click().run()
    assert not page.exception
    assert Grant("frank", Role.EDITOR, "production") in list_grants(team)
    entry = list_audit(team, AuditFilter(action="role.grant"))[0]
    assert (entry.actor, entry.target, entry.reason) == ("ada", "frank", "joins the team")
    page.selectbox(key="role-role").set_value("no role")
    page.text_input(key="role-reason").set_value("left the team")
    next(each for each in page.button if each.label == "Save the role").click().run()
    assert not page.exception
    assert "frank" not in {each.who for each in list_grants(team)}


def test_without_a_sign_in_the_page_says_that_roles_decide_nothing(empty_url: str) -> None:
    page = open_page("rollouts", tab="Requests")
    assert not page.exception
    said = " ".join(text_of(each.value) for each in [*page.markdown, *page.caption])
    assert "nobody holds a role to change production" in said
    assert "Nobody signs in here" in said


def test_an_admin_of_one_environment_gives_no_role_everywhere(team: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    grant_role(team, Grant("carol", Role.ADMIN, "production"), SETUP)
    revoke_role(team, "ada", EVERYWHERE, SETUP)
    sign_in("carol", monkeypatch)
    page = open_page("rollouts", tab="Requests")
    page.text_input(key="role-who").set_value("carol")
    page.selectbox(key="role-role").set_value("admin")
    page.selectbox(key="role-place-production").set_value(EVERYWHERE)
    page.text_input(key="role-reason").set_value("more for me")
    next(each for each in page.button if each.label == "Save the role").click().run()
    assert "everywhere; you have none" in only_error(page)
    assert Grant("carol", Role.ADMIN) not in list_grants(team)
