"""Gaps as GitHub issues, against a GitHub on this machine: each once, bounded, and no token in any message."""

import logging
from collections.abc import Iterator

import pytest

from core.audit.acts import Act
from core.audit.permissions import Role, hold_everywhere
from core.audit.settings import Family, setting_key
from core.audit.trail import AuditFilter, list_audit
from core.coverage import issues
from core.coverage.github import GitHub
from core.coverage.issues import TopicIssue, export_issues, find_issue
from core.coverage.shelves import Shelf, ShelvedTopic
from core.errors import Conflict, Forbidden, InvalidInput, NotFound, SourceUnavailable
from core.jobs.leases import Lease
from quarterdeck.schema import settings
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.core.coverage.test_shelves import TOPIC, Known
from tests.github_stand_in import REPOSITORY, TOKEN, StandIn, standing_in

SCOPE = Scope("production", "chat")
BY = Act("ada", "for the sprint")


def gap(topic_id: str, shelf: Shelf = Shelf.OPEN) -> ShelvedTopic[Known]:
    return ShelvedTopic(topic_id, f"gap {topic_id}", shelf, TOPIC, Known(topic_id))


GAPS = [gap("t1"), gap("t2", Shelf.PLANNED), gap("t3", Shelf.SHIPPED), gap("t4", Shelf.WONT_DO)]


@pytest.fixture
def there() -> Iterator[StandIn]:
    with standing_in() as told:
        yield told


def export(store: Store, there: StandIn, gaps=GAPS, *, token: str = TOKEN, by: Act = BY, repository=REPOSITORY):
    return export_issues(store, GitHub(repository, token, there.address), gaps, by, scope=SCOPE, days=30)


def test_open_and_planned_gaps_become_issues_and_a_second_export_makes_none(store: Store, there: StandIn) -> None:
    done = export(store, there)
    assert (done.made, done.known, done.sentence) == (2, 0, "2 issues made.")
    assert [issue["title"] for issue in there.issues] == ["Coverage gap: gap t1", "Coverage gap: gap t2"]
    assert {label for issue in there.issues for label in issue["labels"]} == {"quarterdeck"}
    assert find_issue(store, "t2") == TopicIssue(REPOSITORY, 2, there.issues[1]["html_url"])
    entries = list_audit(store, AuditFilter(action="topic.export"))
    assert [(entry.target, entry.environment, entry.reason) for entry in entries] == [
        ("t2", "production", "for the sprint"), ("t1", "production", "for the sprint"),
    ]  # fmt: skip
    asked = len(there.asked)
    assert export(store, there).known == 2
    assert (len(there.issues), len(there.asked)) == (2, asked)


def test_an_issue_that_was_made_but_not_recorded_is_found_again(store: Store, there: StandIn) -> None:
    export(store, there)
    with store.begin() as connection:  # as after a crash between GitHub's answer and the record
        connection.execute(settings.delete().where(settings.c.name == setting_key(Family.TOPIC_ISSUE, "t2")))
    done = export(store, there)
    assert (done.made, done.found, done.known, len(there.issues)) == (0, 1, 1, 2)
    assert find_issue(store, "t2").number == 2


def test_what_github_refuses_ends_the_export_and_the_next_one_goes_on(store: Store, there: StandIn) -> None:
    there.refuse_after = 1
    done = export(store, there)
    assert (done.made, done.left) == (1, 1)
    assert "asks to wait 60 s" in done.problem
    there.refuse_after = 1_000
    assert (export(store, there).made, len(there.issues)) == (1, 2)


def test_an_export_makes_fifty_issues_at_most(store: Store, there: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issues, "MOST_ISSUES", 3)
    many = [gap(f"g{at}") for at in range(5)]
    done = export(store, there, many)
    assert (done.made, done.left, done.sentence) == (3, 2, "3 issues made, 2 left for the next export.")
    assert (export(store, there, many).made, len(there.issues)) == (2, 5)


def test_issues_of_another_repository_are_issues_of_their_own(store: Store, there: StandIn) -> None:
    export(store, there)
    with pytest.raises(NotFound, match="no such repository for this token"):
        export(store, there, repository="octo-org/other")


def test_only_one_export_runs_at_a_time(store: Store, there: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    other, waited = Lease(store, "github-issues", lasts_s=20.0), []
    assert other.keep()
    with pytest.raises(Conflict, match="another export"):
        export_issues(
            store, GitHub(REPOSITORY, TOKEN, there.address), GAPS, BY, scope=SCOPE, days=30, sleep=waited.append
        )
    assert (there.issues, len(waited)) == ([], 22)
    other.give_back()
    assert export(store, there).made == 2


def test_the_token_is_in_no_error_log_or_representation(
    store: Store, there: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = TOKEN[::-1]
    with pytest.raises(Forbidden, match="refuses the token") as refused:
        export(store, there, token=wrong)
    there.refuse_after = 0
    with pytest.raises(SourceUnavailable, match="asks to wait") as limited:
        export(store, there)
    told = f"{refused.value} {limited.value} {GitHub(REPOSITORY, TOKEN)!r} {caplog.text} {list_audit(store)}"
    assert TOKEN not in told
    assert wrong not in told


def test_a_redirect_is_not_followed_so_no_other_server_gets_the_token(store: Store, there: StandIn) -> None:
    with standing_in() as elsewhere:
        there.redirect_to = f"{elsewhere.address}/repos/{REPOSITORY}/issues"
        with pytest.raises(SourceUnavailable, match="answers 302"):
            export(store, there)
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("repository", "token", "api", "field"),
    [
        ("docs", TOKEN, "https://api.github.com", "repository"),
        ("a/../b", TOKEN, "https://api.github.com", "repository"),
        (REPOSITORY, "", "https://api.github.com", "token"),
        (REPOSITORY, "a\r\nX-Other: b", "https://api.github.com", "token"),
        (REPOSITORY, TOKEN, "http://github.example.org", "api"),
        (REPOSITORY, TOKEN, "https://user:pass@github.example.org", "api"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_field(repository: str, token: str, api: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        GitHub(repository, token, api)
    assert refused.value.field == field


def test_a_viewer_makes_none(store: Store, there: StandIn) -> None:
    with pytest.raises(Forbidden):
        export(store, there, by=Act("eve", "try", roles=hold_everywhere(Role.VIEWER)))
    assert there.asked == []
