"""A token is bound to an environment, and optionally to services."""

from datetime import UTC, datetime
from typing import Any

import pytest

from core.access.credentials import issue_token
from core.access.scopes import Token, TokenScope, bind_scope, covers, home_of, roles_of, roles_to_propose
from core.access.tokens import get_token
from core.audit.actions import Action
from core.audit.acts import Act
from core.audit.permissions import explain_refusal, may_read_questions
from core.errors import InvalidInput


def make(environment: str = "Staging", *services: str) -> Token:
    return Token(
        "t", "d", "h", (TokenScope.INGEST,), environment, datetime(2026, 3, 1, tzinfo=UTC), "ada", services=services
    )


def holding(*scopes: TokenScope) -> Token:
    return Token("t", "d", "h", scopes, "staging", datetime(2026, 3, 1, tzinfo=UTC), "ada")


def test_admin_covers_every_scope_but_the_two_that_have_to_be_named() -> None:
    left = {scope for scope in TokenScope if not covers(holding(TokenScope.ADMIN), scope)}
    assert left == {TokenScope.SHARED, TokenScope.PROPOSE}


def test_who_proposes_does_so_as_an_editor_and_changes_nothing_itself() -> None:
    s, flag, swap = TokenScope, Action.FLAG_UPDATE, Action.INDEX_SWAP
    for scopes, proposed in (((s.READ, s.PROPOSE), {flag}), ((s.READ, s.PROPOSE, s.SHARED), {flag, swap})):
        token = holding(*scopes)
        roles = roles_to_propose(token)
        assert roles is not None
        assert {each for each in (flag, swap) if not explain_refusal(roles, each, "staging")} == proposed
        assert not any(explain_refusal(roles_of(token), each, "staging") == "" for each in Action)
        assert explain_refusal(roles, flag, "production")
    assert [roles_to_propose(holding(scope)) for scope in (s.READ, s.CHANGE, s.ADMIN)] == [None, None, None]


def test_a_token_may_do_what_its_scopes_say_in_its_own_environment_alone() -> None:
    s, flag, swap, rule = TokenScope, Action.FLAG_UPDATE, Action.INDEX_SWAP, Action.ALERT_SAVE
    allowed = {
        scopes: tuple(
            (action, environment)
            for action in (flag, swap, rule)
            for environment in ("staging", "production")
            if not explain_refusal(roles_of(holding(*scopes)), action, environment)
        )
        for scopes in ((s.INGEST,), (s.READ, s.QUESTIONS), (s.CHANGE,), (s.CHANGE, s.SHARED), (s.SHARED,), (s.ADMIN,))
    }
    both = ((swap, "staging"), (swap, "production"))
    assert list(allowed.values()) == [
        (), (), ((flag, "staging"),), ((flag, "staging"), *both), (), ((flag, "staging"), (rule, "staging")),
    ]  # fmt: skip


def test_questions_are_read_in_the_tokens_environment_and_with_the_scope_alone() -> None:
    readers = [roles_of(holding(scope)) for scope in (TokenScope.READ, TokenScope.QUESTIONS, TokenScope.ADMIN)]
    assert [may_read_questions(roles, "staging") for roles in readers] == [False, True, True]
    assert not any(may_read_questions(roles, "production") for roles in readers)


@pytest.mark.parametrize(
    ("token", "named", "bound"),
    [
        (None, (None, None), ("production", "default")),
        (None, ("QA", "Answers"), ("qa", "answers")),
        (make(), (None, ""), ("staging", "default")),
        (make(), ("", "Answers"), ("staging", "answers")),
        (make("staging", "answers"), (None, None), ("staging", "answers")),
        (make("staging", "answers"), (None, "unknown_service:java"), ("staging", "answers")),
        (make("staging", "answers", "search"), (None, "search"), ("staging", "search")),
        (make("staging"), (None, "unknown_service"), ("staging", "default")),
    ],
)
def test_what_is_not_named_is_the_tokens(token: Token | None, named: tuple[Any, Any], bound: tuple[str, str]) -> None:
    assert bind_scope(token, named) == bound


@pytest.mark.parametrize(
    ("token", "named", "field"),
    [
        (make(), ("production", None), "scope"),
        (make("staging", "answers"), (None, "search"), "scope"),
        (make("staging", "answers"), ("staging", "default"), "scope"),
        (make("staging", "answers", "search"), (None, None), "scope"),
        (make(), (7, None), "environment"),
        (None, (None, []), "service"),
    ],
)
def test_another_scope_is_refused(token: Token | None, named: tuple[Any, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        bind_scope(token, named)
    assert caught.value.field == field


def test_what_is_refused_is_counted_under_the_tokens_own_scope():
    assert home_of(None) == ("production", "default")
    assert home_of(make("staging", "a", "b")) == ("staging", "default")
    assert home_of(make("staging", "a")) == ("staging", "a")


def test_a_token_keeps_its_services(store):
    issue_token(store, "t", [TokenScope.INGEST], Act("ada", "a test"), services=["Search", "answers", "search"])
    assert get_token(store, "t").services == ("answers", "search")


def test_a_service_with_a_space_in_its_name_is_refused(store):
    with pytest.raises(InvalidInput, match="service: must be 1 to 128 printable characters without spaces"):
        issue_token(store, "t", [TokenScope.INGEST], Act("ada", "a test"), services=["my service"])
