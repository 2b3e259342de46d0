"""Shell: what people do with case sets, each with its audit entry: add, edit, remove, restore, import, mark as golden.

The trail holds ids and digests and no text, so that an erasure need not touch it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select, update

from core.audit.actions import Action
from core.audit.acts import Act, Change, changing
from core.audit.settings import save_versioned
from core.cases.cases import (
    DRAFT,
    MOST_CASES,
    CaseSet,
    CaseSetState,
    CaseSource,
    StoredCase,
    check_set_name,
    describe_state,
    is_same,
    make_ids,
)
from core.cases.store import get_set, list_used_ids, read_set, write_cases
from core.errors import Conflict, InvalidInput
from core.tracking.cases import Case
from quarterdeck.schema import case_sets
from quarterdeck.store import Store

_NOWHERE = CaseSource()


@dataclass(frozen=True, slots=True)
class NewCase:
    """A case that has no id yet."""

    question: str
    expected_documents: tuple[str, ...]
    reference_answer: str
    answerable: bool
    source: CaseSource = _NOWHERE
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Edit:
    """A set before a change, what is written and removed, and the set after it."""

    former: CaseSet
    written: tuple[StoredCase, ...]
    removed: tuple[str, ...]
    after: CaseSet

    @property
    def told(self) -> CaseSetState | None:
        """What the audit trail keeps of the set after the change."""
        return describe_state(self.after, [*(each.id for each in self.written), *self.removed])


def add_cases(
    store: Store, name: str, new: Sequence[NewCase], by: Act, *, reviewer: str = "", expected: int | None = None
) -> int:
    """Add cases at the end of a set, which is made if there is none; return the audit entry.

    `expected` is the version of the set that was seen; None adds to whatever it holds now.
    Raises InvalidInput and Conflict.
    """
    if not new:
        raise InvalidInput("cases", "there are none to add")
    with changing(store, by) as change:
        former = _read(change, name, expected)
        ids = make_ids([*list_used_ids(change.connection, name), *(each.id for each in former.cases)], len(new))
        last = max((each.position for each in former.cases), default=0)
        written = [
            StoredCase(
                Case(case_id, each.question.strip(), each.expected_documents, each.reference_answer, each.answerable),
                place, source=each.source, tags=each.tags, reviewer=reviewer,
            )
            for place, (case_id, each) in enumerate(zip(ids, new, strict=True), last + 1)
        ]  # fmt: skip
        edit = _plan(former, written, ())
        change.record(Action.CASE_ADD, name, describe_state(former), edit.told)
        _save(change, edit)
    return change.entry_id


def change_cases(
    store: Store, name: str, changed: Sequence[StoredCase], by: Act, *, removed: Collection[str] = (), expected: int
) -> int:
    """Replace the cases of these ids, and remove others; return the audit entry.

    Whoever changes a case has reviewed it: it loses the tag `draft`. Raises InvalidInput where nothing changes or an
    id is unknown, and Conflict if the set changed since.
    """
    with changing(store, by) as change:
        former = _read(change, name, expected)
        known = {each.id: each for each in former.cases}
        if unknown := sorted({*(each.id for each in changed), *removed} - set(known)):
            raise InvalidInput("case", f"{name} has no case {unknown[0]!r}; reload to see what it has")
        edited = [_review(each, known[each.id], by) for each in changed if each.id not in removed]
        written = [each for each in edited if not is_same(each, known[each.id])]
        edit = _plan(former, written, sorted(removed))
        change.record(Action.CASE_CHANGE if written else Action.CASE_REMOVE, name, describe_state(former), edit.told)
        _save(change, edit)
    return change.entry_id


def restore_version(store: Store, name: str, version: int, by: Act, *, expected: int) -> int:
    """Let a set be again what it was in a former version, as a new version; return the audit entry.

    Cases that were erased since do not come back. Version 0 is the empty set before its first case.
    """
    wanted = get_set(store, name, version=version).cases if version else ()
    with changing(store, by) as change:
        former = _read(change, name, expected)
        edit = _plan(former, *_differ(former, wanted))
        change.record(Action.CASE_RESTORE, name, describe_state(former), edit.told)
        _save(change, edit)
    return change.entry_id


def import_cases(
    store: Store, name: str, cases: Sequence[Case], by: Act, *, reviewer: str = "", expected: int | None = None
) -> int:
    """Let a set hold exactly the cases of a file, in its order; return the audit entry.

    A case that the set has already keeps its source and tags; its reviewer too, unless the file changes it. Cases
    that the file lacks are removed; a former version can be restored. Raises InvalidInput where nothing changes.
    """
    with changing(store, by) as change:
        former = _read(change, name, expected)
        known = {each.id: each for each in former.cases}
        wanted = []
        for place, case in enumerate(cases, 1):
            old = known.get(case.id)
            kept = replace(old, position=place) if old else StoredCase(case, place, reviewer=reviewer)
            wanted.append(kept if kept.case == case else replace(kept, case=case, reviewer=reviewer))
        edit = _plan(former, *_differ(former, wanted))
        change.record(Action.CASE_IMPORT, name, describe_state(former), edit.told)
        _save(change, edit)
    return change.entry_id


def mark_golden(store: Store, name: str, by: Act, *, golden: bool = True) -> int:
    """Make a set the golden set of index swaps, or stop it from being one; return the audit entry.

    There is at most one. Raises NotFound, and InvalidInput where nothing changes.
    """
    found = get_set(store, name)
    if found.is_golden is golden:
        raise InvalidInput("case set", f"{name} is {'already' if golden else 'not'} the golden set")
    with changing(store, by) as change:
        change.connection.execute(update(case_sets).values(golden=0))
        if golden:
            change.connection.execute(update(case_sets).where(case_sets.c.name == name).values(golden=1))
        change.record(Action.CASE_GOLDEN, name, describe_state(found), describe_state(replace(found, is_golden=golden)))
    return change.entry_id


def _read(change: Change, name: str, expected: int | None) -> CaseSet:
    row = select(case_sets.c.version).where(case_sets.c.name == check_set_name(name))
    change.connection.execute(row.with_for_update())  # on PostgreSQL the next writer waits here
    former = read_set(change.connection, name)
    if expected is not None and former.version != expected:
        raise Conflict(
            f"{name!r} is at version {former.version}, you changed version {expected}: somebody else was faster. "
            "Nothing was overwritten; reload to see their change."
        )
    return former


def _plan(former: CaseSet, written: Sequence[StoredCase], removed: Sequence[str]) -> _Edit:
    """Return an edit with what the set will hold. Raises InvalidInput where nothing changes or it holds too much."""
    if not written and not removed:
        raise InvalidInput("cases", "are as they were")
    kept = {each.id: each for each in former.cases if each.id not in set(removed)}
    after = sorted((kept | {each.id: each for each in written}).values(), key=lambda each: (each.position, each.id))
    if len(after) > MOST_CASES:
        raise InvalidInput("cases", f"a set holds at most {MOST_CASES:,}")
    later = replace(former, version=former.version + 1, cases=tuple(after))
    return _Edit(former, tuple(written), tuple(removed), later)


def _save(change: Change, edit: _Edit) -> None:
    """Write the set, its cases and their history; the history names the audit entry, so that was written before."""
    name, actor = edit.former.name, change.act.actor.strip()
    values = {"updated_ms": change.at_ms, "updated_by": actor}
    save_versioned(change.connection, case_sets, {"name": name}, values, expected_version=edit.former.version)
    stamp = {
        "set_version": edit.after.version, "changed_ms": change.at_ms, "changed_by": actor,
        "reason": change.act.reason.strip(), "audit_id": change.entry_id,
    }  # fmt: skip
    write_cases(change.connection, name, edit.written, edit.removed, stamp)


def _review(each: StoredCase, known: StoredCase, by: Act) -> StoredCase:
    """Return an edited case: whoever edits one has reviewed it."""
    if is_same(each, known):
        return each
    tags = tuple(tag for tag in each.tags if tag != DRAFT)
    return replace(each, tags=tags, reviewer=by.actor.strip(), position=known.position)


def _differ(former: CaseSet, wanted: Sequence[StoredCase]) -> tuple[list[StoredCase], list[str]]:
    """Return the cases to write and the ids to remove, so that a set holds what is wanted."""
    known = {each.id: each for each in former.cases}
    written = [each for each in wanted if each.id not in known or not is_same(each, known[each.id])]
    ids = {each.id for each in wanted}
    return written, [each.id for each in former.cases if each.id not in ids]
