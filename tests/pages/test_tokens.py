"""The tokens on the rollouts page."""

import hashlib

import pytest

from tests.pages.opening import ask, only_error, open_page

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


@pytest.mark.deep
def test_a_token_is_made_shown_once_and_revoked_on_the_access_tab(empty_url: str) -> None:
    app = open_page("rollouts", tab="Access")
    assert "open to everyone" in " ".join(each.value for each in app.markdown)
    app.text_input(key="token-name").set_value("search")
    app.multiselect(key="token-scopes").set_value(["evaluate"])
    app.text_input(key="token-services").set_value("search, Answers")
    app.text_input(key="token-reason").set_value("OFREP for search")
    next(each for each in app.button if each.label == "Make the token").click().run()
    assert not app.exception
    (secret,) = (each.value for each in app.code if each.value.startswith("qd_"))
    ((digest, services),) = ask(empty_url, "SELECT digest, services FROM tokens WHERE name = 'search'")
    assert services == "answers search"
    assert hashlib.sha256(secret.encode()).hexdigest() == digest
    assert "1 of 1 are active" in " ".join(each.value for each in app.markdown)
    app.run()
    assert not [each for each in app.code if each.value.startswith("qd_")]
    app.text_input(key="token-revoke-reason").set_value("leaked")
    next(each for each in app.button if each.label == "Revoke").click().run()
    assert not app.exception
    assert ask(empty_url, "SELECT COUNT(*) FROM tokens WHERE revoked_ms IS NOT NULL") == [(1,)]
    assert "0 of 1 are active" in " ".join(each.value for each in app.markdown)


@pytest.mark.deep
def test_no_click_chooses_every_scope(empty_url: str) -> None:
    assert open_page("rollouts", tab="Access").multiselect(key="token-scopes").proto.select_all == 0


@pytest.mark.deep
def test_a_token_without_a_scope_is_refused_in_one_line(empty_url: str) -> None:
    app = open_page("rollouts", tab="Access")
    app.text_input(key="token-name").set_value("search")
    app.text_input(key="token-reason").set_value("why")
    next(each for each in app.button if each.label == "Make the token").click().run()
    assert (
        "scopes: must have at least one of evaluate, ingest, read, questions, change, propose, shared, admin"
        in only_error(app)
    )
    assert ask(empty_url, "SELECT COUNT(*) FROM tokens") == [(0,)]
