"""Gateway to the case sets in the store: their cases now and at any former version, and what each version changed."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from core.cases.cases import CaseSet, CaseSource, StoredCase, read_body, write_body
from core.errors import InvalidInput, NotFound
from core.tracking.cases import Case
from quarterdeck.clock import from_ms
from quarterdeck.schema import case_history, case_sets, cases
from quarterdeck.store import Store

_SLICE = 500


@dataclass(frozen=True, slots=True)
class CaseSetSummary:
    """A set at a glance."""

    name: str
    version: int
    count: int
    unreviewed: int
    is_golden: bool
    updated: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class SetChange:
    """What one version of a set changed: how many cases it kept as new or other ones, and how many it removed."""

    version: int
    written: int
    removed: int
    at: datetime
    by: str
    reason: str
    audit_id: int


@dataclass(frozen=True, slots=True)
class CaseChange:
    """One state of a case in the course of time; `stored` is None where it was removed."""

    set_version: int
    stored: StoredCase | None
    at: datetime
    by: str
    reason: str


def list_sets(store: Store) -> tuple[CaseSetSummary, ...]:
    """Return every set, by name. Raises SourceUnavailable."""
    with store.read() as connection:
        sets = connection.execute(select(case_sets).order_by(case_sets.c.name)).mappings().all()
        counts = Counter({row[0]: int(row[1]) for row in connection.execute(_COUNT.group_by(cases.c.set_name))})
        waiting = _COUNT.where(cases.c.reviewer == "").group_by(cases.c.set_name)
        bare = Counter({row[0]: int(row[1]) for row in connection.execute(waiting)})
    return tuple(
        CaseSetSummary(
            row["name"], row["version"], counts[row["name"]], bare[row["name"]], bool(row["golden"]),
            from_ms(row["updated_ms"]), row["updated_by"],
        )
        for row in sets
    )  # fmt: skip


def find_set(store: Store, name: str) -> CaseSet:
    """Return a set with its cases in order; an empty one of version 0 where there is none of that name."""
    with store.read() as connection:
        return read_set(connection, name)


def get_set(store: Store, name: str, *, version: int | None = None) -> CaseSet:
    """Return a set, as it is or as it was in a former version. Raises NotFound, listing the sets or versions."""
    found = find_set(store, name)
    if not found.version:
        known = ", ".join(each.name for each in list_sets(store)) or "none"
        raise NotFound(f"case set: there is no set {name!r}; there are: {known}")
    if version is None or version == found.version:
        return found
    if not 1 <= version < found.version:
        raise NotFound(f"case set: {name!r} has no version {version}; its versions are 1 to {found.version}")
    return CaseSet(name, version, _read_former(store, name, version), found.is_golden)


def read_reference(store: Store, reference: str) -> CaseSet:
    """Return the set that a command names: `qa`, or `qa@3` for its version 3. Raises InvalidInput and NotFound."""
    name, at, version = reference.partition("@")
    if at and not version.isdecimal():
        raise InvalidInput("case set", f"must be a name, or a name and a version such as qa@3, not {reference!r}")
    return get_set(store, name, version=int(version) if at else None)


def find_golden(store: Store) -> CaseSet | None:
    """Return the set that is the golden set of index swaps, or None."""
    with store.read() as connection:
        name = connection.scalar(select(case_sets.c.name).where(case_sets.c.golden == 1))
        return read_set(connection, name) if name else None


def list_cases_of_topics(store: Store, topic_ids: Collection[str]) -> tuple[StoredCase, ...]:
    """Return the cases of every set that were made of these topics, each question once."""
    found: dict[str, StoredCase] = {}
    with store.read() as connection:
        for part in _slice(topic_ids):
            query = select(cases).where(cases.c.topic_id.in_(part))
            for row in connection.execute(query.order_by(cases.c.set_name, cases.c.position)).mappings():
                found.setdefault(row["question"], _read_case(row))
    return tuple(found.values())


def list_sets_of_topic(store: Store, topic_id: str) -> tuple[str, ...]:
    """Return the names of the sets that hold cases of a topic."""
    query = select(cases.c.set_name).where(cases.c.topic_id == topic_id).distinct().order_by(cases.c.set_name)
    with store.read() as connection:
        return tuple(connection.scalars(query))


def list_changes(store: Store, name: str, *, limit: int = 100) -> tuple[SetChange, ...]:
    """Return what the newest versions of a set changed, newest first."""
    c = case_history.c
    with store.read() as connection:
        newest = select(c.set_version).where(c.set_name == name).distinct().order_by(c.set_version.desc()).limit(limit)
        columns = (c.set_version, c.body, c.changed_ms, c.changed_by, c.reason, c.audit_id)
        query = select(*columns).where(c.set_name == name, c.set_version.in_(newest.scalar_subquery()))
        rows = connection.execute(query.order_by(c.set_version.desc())).all()
    removed = Counter(row.set_version for row in rows if not row.body)
    total = Counter(row.set_version for row in rows)
    firsts = {row.set_version: row for row in reversed(rows)}
    return tuple(
        SetChange(
            version, total[version] - removed[version], removed[version], from_ms(row.changed_ms), row.changed_by,
            row.reason, row.audit_id,
        )
        for version, row in sorted(firsts.items(), reverse=True)
    )  # fmt: skip


def list_case_changes(store: Store, name: str, case_id: str) -> tuple[CaseChange, ...]:
    """Return every state that a case had, newest first."""
    c = case_history.c
    query = select(case_history).where(c.set_name == name, c.case_id == case_id).order_by(c.set_version.desc())
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(
        CaseChange(row["set_version"], _read_history(row), from_ms(row["changed_ms"]), row["changed_by"], row["reason"])
        for row in rows
    )


def read_set(connection: Connection, name: str) -> CaseSet:
    """Return a set in an open transaction; an empty one of version 0 where there is none."""
    found = connection.execute(select(case_sets).where(case_sets.c.name == name)).mappings().first()
    if found is None:
        return CaseSet(name, 0, ())
    query = select(cases).where(cases.c.set_name == name).order_by(cases.c.position, cases.c.case_id)
    rows = connection.execute(query).mappings()
    return CaseSet(name, found["version"], tuple(map(_read_case, rows)), bool(found["golden"]))


def list_used_ids(connection: Connection, name: str) -> dict[str, int]:
    """Return every id that a set ever had, with its highest version: a new case takes none of them."""
    c = case_history.c
    query = select(c.case_id, func.max(c.case_version)).where(c.set_name == name).group_by(c.case_id)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def list_sources(connection: Connection) -> Iterator[tuple[str, str, tuple[str, str], str]]:
    """Yield set, id, source (environment and question) and text of every state that any case had."""
    c = case_history.c
    for name, case_id, body in connection.execute(select(c.set_name, c.case_id, c.body).where(c.body != "")):
        told = json.loads(body)
        source = told["source"]
        yield name, case_id, (source["environment"], source["retrieval_id"]), told["case"]["question"]


def write_cases(
    connection: Connection, name: str, written: Iterable[StoredCase], removed: Collection[str], stamp: Mapping[str, Any]
) -> None:
    """Write the changed cases of a set and their history, in an open transaction.

    `stamp` holds `set_version`, `changed_ms`, `changed_by`, `reason` and `audit_id`.
    """
    written = list(written)
    gone = [*removed, *(each.id for each in written)]
    versions = list_used_ids(connection, name)
    for part in _slice(gone):
        connection.execute(delete(cases).where(cases.c.set_name == name, cases.c.case_id.in_(part)))
    history = [
        {"case_id": each, "case_version": versions.get(each, 0) + 1, "body": "", "set_name": name, **stamp}
        for each in removed
    ]
    rows = []
    for each in written:
        version = versions.get(each.id, 0) + 1
        body = json.dumps(write_body(each), ensure_ascii=False)
        history.append({"case_id": each.id, "case_version": version, "body": body, "set_name": name, **stamp})
        rows.append(_write_case(name, each, version, stamp))
    if rows:
        connection.execute(insert(cases), rows)
    if history:
        connection.execute(insert(case_history), history)


def _read_former(store: Store, name: str, version: int) -> tuple[StoredCase, ...]:
    c = case_history.c
    newest = (
        select(c.case_id, func.max(c.set_version).label("at"))
        .where(c.set_name == name, c.set_version <= version)
        .group_by(c.case_id)
        .subquery()
    )
    query = select(case_history).join(newest, (newest.c.case_id == c.case_id) & (newest.c.at == c.set_version))
    with store.read() as connection:
        rows = connection.execute(query.where(c.set_name == name)).mappings().all()
    found = (_read_history(row) for row in rows)
    return tuple(sorted((each for each in found if each), key=lambda each: (each.position, each.id)))


def _read_history(row: Any) -> StoredCase | None:
    return read_body(json.loads(row["body"]), version=row["case_version"]) if row["body"] else None


def _read_case(row: Any) -> StoredCase:
    case = Case(
        row["case_id"], row["question"], tuple(json.loads(row["expected_documents"])), row["reference_answer"],
        bool(row["answerable"]),
    )  # fmt: skip
    source = CaseSource(row["environment"], row["service"], row["retrieval_id"], row["topic_id"], row["corpus_version"])
    return StoredCase(case, row["position"], row["version"], source, tuple(json.loads(row["tags"])), row["reviewer"])


def _write_case(name: str, stored: StoredCase, version: int, stamp: Mapping[str, Any]) -> dict[str, Any]:
    case, source = stored.case, stored.source
    return {
        "set_name": name, "case_id": case.id, "version": version, "position": stored.position,
        "question": case.question, "expected_documents": json.dumps(case.expected_documents, ensure_ascii=False),
        "reference_answer": case.reference_answer, "answerable": int(case.answerable),
        "environment": source.environment, "service": source.service, "retrieval_id": source.retrieval_id,
        "topic_id": source.topic_id, "corpus_version": source.corpus_version,
        "tags": json.dumps(stored.tags, ensure_ascii=False), "reviewer": stored.reviewer,
        "updated_ms": stamp["changed_ms"], "updated_by": stamp["changed_by"],
    }  # fmt: skip


def _slice(values: Collection[str]) -> Iterable[list[str]]:
    ordered = sorted(values)
    return (ordered[start : start + _SLICE] for start in range(0, len(ordered), _SLICE))


_COUNT = select(cases.c.set_name, func.count())
