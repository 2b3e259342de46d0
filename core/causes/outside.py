"""Rule: reads changes that other systems report: deploys, releases, feed outages. Each is taken, or refused by name.

`github.py` makes them of GitHub's events, and `outside_changes.py` keeps them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from core.causes.timeline import ChangeKind, TimelineChange
from core.errors import InvalidInput
from core.intake.rows import UNKNOWN_FIELD, RefusedRow, ScopeBinder, TimeReader
from core.safety.letters import check_letters
from quarterdeck.redaction import Redactor
from quarterdeck.scope import Scope

FIELDS = ("kind", "title", "ts", "service", "environment", "url", "id", "actor")
MAX_TITLE, MAX_ID, MAX_URL, MAX_ACTOR = 300, 256, 500, 100
EVERY_SERVICE = ""
API, GITHUB = "api", "github"
_AHEAD = timedelta(days=1)
_RecordBinder = Callable[[Mapping[str, Any]], Scope]


class OutsideKind(StrEnum):
    """What was changed elsewhere."""

    DEPLOY = "deploy"
    RELEASE = "release"
    FEED_OUTAGE = "feed_outage"
    MODEL = "model"
    CONFIG = "config"
    PUSH = "push"
    OTHER = "other"


_KINDS = {
    OutsideKind.DEPLOY: ChangeKind.DEPLOYMENT,
    OutsideKind.RELEASE: ChangeKind.RELEASE,
    OutsideKind.FEED_OUTAGE: ChangeKind.FEED,
    OutsideKind.PUSH: ChangeKind.PUSH,
}


@dataclass(frozen=True, slots=True)
class OutsideChange:
    """A change of another system. The service "" stands for all of the environment.

    `external_id` is its name in the source, "" for none. `reach` is 0 for what is shown but cannot be a cause yet, such
    as a deployment that was only requested.
    """

    ts: datetime
    kind: OutsideKind
    title: str
    environment: str
    service: str = EVERY_SERVICE
    url: str = ""
    external_id: str = ""
    actor: str = ""
    source: str = API
    reach: float = 1.0

    def as_change(self) -> TimelineChange:
        """Return the change as the timeline shows it."""
        kind = _KINDS.get(self.kind, ChangeKind.OUTSIDE)
        return TimelineChange(self.ts, kind, self.service, self.title, self.actor, "", reach=self.reach, url=self.url)


@dataclass(frozen=True, slots=True)
class ParsedChanges:
    """The parsed records: every one is either a change or refused."""

    changes: tuple[OutsideChange, ...]
    refused: tuple[RefusedRow, ...]


def parse_changes(
    records: Iterable[object],
    *,
    read_time: TimeReader,
    redact: Redactor,
    bind: ScopeBinder,
    now: datetime,
    of_all: bool = True,
) -> ParsedChanges:
    """Return the changes of records, and the refused records, numbered from 0. Titles are redacted.

    One that names no service is of all services, if its sender may write for all of them (`of_all`). A record that is
    an InvalidInput was already refused by its source.
    """
    found, refused = [], []
    for number, record in enumerate(records):
        try:
            if isinstance(record, InvalidInput):
                raise record
            found.append(_parse(record, read_time, redact, partial(_bind, bind=bind, of_all=of_all), now))
        except InvalidInput as error:
            refused.append(RefusedRow(number, error.field, error.problem))
    return ParsedChanges(tuple(found), tuple(refused))


def check_change(change: OutsideChange) -> OutsideChange:
    """Return the change. Raises InvalidInput for a text that is too long or not plain, and a wrong address."""
    texts = (("title", change.title, 1, MAX_TITLE), ("id", change.external_id, 0, MAX_ID))
    for field, text, least, most in (*texts, ("actor", change.actor, 0, MAX_ACTOR), ("url", change.url, 0, MAX_URL)):
        check_letters(text, field)
        if not least <= len(text) <= most or not text.isprintable():
            raise InvalidInput(field, f"must be {least} to {most} printable characters")
    if change.url and not _is_address(change.url):
        raise InvalidInput("url", "must be an http or https address")
    return change


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _parse(
    record: object, read_time: TimeReader, redact: Redactor, bind: _RecordBinder, now: datetime
) -> OutsideChange:
    if not isinstance(record, Mapping):
        raise InvalidInput("row", "must be an object with kind and title")
    if unknown := record.keys() - set(FIELDS):
        raise InvalidInput(min(map(str, unknown)), f"{UNKNOWN_FIELD} a change; there are: {', '.join(FIELDS)}")
    ts = read_time(record.get("ts"))
    if ts > now + _AHEAD:
        raise InvalidInput("ts", "lies more than a day ahead")
    texts = {field: _read_text(record, field) for field in ("title", "url", "id", "actor")}
    scope = bind(record)
    return check_change(
        OutsideChange(
            ts, _read_kind(record.get("kind")), redact(texts["title"]), scope.environment, scope.service,
            texts["url"], texts["id"], texts["actor"],
        )
    )  # fmt: skip


def _bind(record: Mapping[str, Any], *, bind: ScopeBinder, of_all: bool) -> Scope:
    named = record.get("service")
    scope = bind((record.get("environment"), named))
    return Scope(scope.environment, EVERY_SERVICE) if of_all and named in (None, "") else scope


def _read_kind(given: object) -> OutsideKind:
    named = given.strip().casefold().replace(" ", "_") if isinstance(given, str) else given
    if named not in list(OutsideKind):
        raise InvalidInput("kind", f"must be one of {', '.join(OutsideKind)}")
    return OutsideKind(str(named))


def _read_text(record: Mapping[str, Any], field: str) -> str:
    given = record.get(field)
    if given is not None and not isinstance(given, str):
        raise InvalidInput(field, f"must be text, not {type(given).__name__}")
    return (given or "").strip()
