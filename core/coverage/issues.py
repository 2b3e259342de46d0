"""Shell: exports gaps as GitHub issues, each once: a second export makes none twice, nor does one after a crash."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from core.audit.actions import Action
from core.audit.acts import Act, changing, require
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.coverage.exports import is_exported, marker_of, write_issue
from core.coverage.github import GitHub, Issue
from core.coverage.shelves import ShelvedTopic
from core.errors import Conflict, QuarterdeckError
from core.jobs.leases import Lease
from core.wording.counts import count_of
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_ISSUES = 50  # in one export
_LEASE, _LEASE_S = "github-issues", 20.0


@dataclass(frozen=True, slots=True)
class TopicIssue:
    """The issue of a topic, as the store and the audit trail keep it."""

    repository: str
    number: int
    url: str

    def to_audit(self) -> dict[str, Any]:
        """Return the issue as JSON knows it."""
        return {"repository": self.repository, "number": self.number, "url": self.url}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "TopicIssue | None":
        """Return what `to_audit` wrote; None where there is no issue."""
        return cls(str(told["repository"]), int(told["number"]), str(told["url"])) if told else None


@dataclass(frozen=True, slots=True)
class IssuesExported:
    """What an export did: how many issues it made, found again at GitHub, and knew already; how many are left.

    `entry` is the audit entry of the last one that it recorded, 0 for none. `problem` is why it ended early.
    """

    made: int
    found: int
    known: int
    left: int = 0
    entry: int = 0
    problem: str = ""

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        told = [f"{count_of(self.made, 'issue')} made"]
        told += [f"{self.found} found again at GitHub"] if self.found else []
        told += [f"{self.known} there already"] if self.known else []
        told += [f"{self.left} left for the next export"] if self.left else []
        return f"{', '.join(told)}.{f' It ended early: {self.problem}' if self.problem else ''}"


def export_issues(
    store: Store,
    github: GitHub,
    gaps: Sequence[ShelvedTopic[Any]],
    by: Act,
    *,
    scope: Scope,
    days: int,
    cures: Mapping[str, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> IssuesExported:
    """Make an issue for each open or planned gap that has none in the repository, at most 50; say what was done.

    Each issue is recorded with an audit entry as soon as it exists. One that was made but not recorded, because the
    process died in between, is found by the marker in its text. What GitHub refuses ends the export, and what was made
    until then stays. Raises Forbidden, Conflict while another export runs, and what GitHub refuses before anything was
    made.
    """
    by = replace(by, environment=scope.environment)
    require(by, Action.TOPIC_EXPORT)
    with _alone(store, sleep) as lease:
        return _export(store, github, [gap for gap in gaps if is_exported(gap)], by, lease, scope, days, cures or {})


def _export(
    store: Store,
    github: GitHub,
    wanted: Sequence[ShelvedTopic[Any]],
    by: Act,
    lease: Lease,
    scope: Scope,
    days: int,
    cures: Mapping[str, str],
) -> IssuesExported:
    due = [gap for gap in wanted if not _is_known(store, github, gap.topic_id)]
    done = IssuesExported(0, 0, len(wanted) - len(due), max(0, len(due) - MOST_ISSUES))
    if not due:
        return done
    existing = _by_topic(github.list_own_issues(), due)
    where = f"{scope.service} in {scope.environment}"
    for gap in due[:MOST_ISSUES]:
        issue = existing.get(gap.topic_id)
        try:
            if not lease.keep():
                raise Conflict("another export took over; look at what it made")
            text = write_issue(gap, where=where, cure=cures.get(gap.topic_id, ""), days=days)
            made = issue or github.create_issue(*text)
        except QuarterdeckError as error:
            if not done.entry:
                raise
            return replace(done, left=len(due) - done.made - done.found, problem=str(error))
        entry = _record(store, gap.topic_id, TopicIssue(github.repository, made.number, made.url), by)
        done = replace(done, made=done.made + (issue is None), found=done.found + (issue is not None), entry=entry)
    return done


def find_issue(store: Store, topic_id: str) -> TopicIssue | None:
    """Return the issue that a topic was exported to last, or None."""
    return TopicIssue.read(get_setting(store, setting_key(Family.TOPIC_ISSUE, topic_id)).value)


@contextmanager
def _alone(store: Store, sleep: Callable[[float], None]) -> Iterator[Lease]:
    """Hold the lease of exports. Waits for one that a dead process left behind; raises Conflict after that."""
    lease = Lease(store, _LEASE, lasts_s=_LEASE_S)
    for _ in range(int(_LEASE_S) + 2):
        if lease.keep():
            break
        sleep(1.0)
    else:
        raise Conflict("another export of issues is running; nothing was made. Try again when it is over")
    try:
        yield lease
    finally:
        lease.give_back()


def _is_known(store: Store, github: GitHub, topic_id: str) -> bool:
    issue = find_issue(store, topic_id)
    return issue is not None and issue.repository.casefold() == github.repository.casefold()


def _by_topic(issues: Iterable[Issue], gaps: Sequence[ShelvedTopic[Any]]) -> dict[str, Issue]:
    """Return the oldest issue with the marker of each gap."""
    ordered = sorted(issues, key=lambda issue: -issue.number)
    return {gap.topic_id: issue for issue in ordered for gap in gaps if marker_of(gap.topic_id) in issue.body}


def _record(store: Store, topic_id: str, issue: TopicIssue, by: Act) -> int:
    name = setting_key(Family.TOPIC_ISSUE, topic_id)
    stored, version = get_setting(store, name)
    with changing(store, by) as change:
        save_setting(change.connection, name, issue.to_audit(), expected_version=version)
        change.record(Action.TOPIC_EXPORT, topic_id, TopicIssue.read(stored), issue)
    return change.entry_id
