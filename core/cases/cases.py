"""Rule: evaluation cases as the store keeps them: their names and limits, where they come from, and their file.

The file has the format that `quarterdeck eval` reads; what it does not hold (source, reviewer, tags)
stays in the store.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from core.errors import InvalidInput
from core.safety.letters import check_letters
from core.tracking.cases import Case, dataset_digest

MOST_CASES = 5_000  # of a set
MOST_TAGS, LONGEST_TAG = 20, 50
LONGEST_TEXT = 20_000
DRAFT = "draft"  # the tag of cases whose expected documents and reference the deck proposed
_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_LONGEST_ID = 200
_NUMBERED = re.compile(r"c(\d+)")


@dataclass(frozen=True, slots=True)
class CaseSource:
    """Where a case comes from: a logged question, in its environment and service, and its topic; "" for none.

    `corpus_version` is that of the live index when the case was made.
    """

    environment: str = ""
    service: str = ""
    retrieval_id: str = ""
    topic_id: str = ""
    corpus_version: str = ""


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A case with its place in the set, its own version, and who reviewed it ("" for nobody). Raises InvalidInput."""

    case: Case
    position: int = 0
    version: int = 0
    source: CaseSource = field(default_factory=CaseSource)
    tags: tuple[str, ...] = ()
    reviewer: str = ""

    def __post_init__(self) -> None:
        check_case(self.case)
        check_tags(self.tags)

    @property
    def id(self) -> str:
        """The case's id."""
        return self.case.id


@dataclass(frozen=True, slots=True)
class CaseSet:
    """A set in the store; `version` counts its changes, and the next writer has to expect it."""

    name: str
    version: int
    cases: tuple[StoredCase, ...]
    is_golden: bool = False

    @property
    def plain(self) -> tuple[Case, ...]:
        """The cases as files and evaluations know them, in order."""
        return tuple(each.case for each in self.cases)

    @property
    def unreviewed(self) -> int:
        """How many cases nobody reviewed yet."""
        return sum(not each.reviewer for each in self.cases)


@dataclass(frozen=True, slots=True)
class CaseSetState:
    """What the audit trail keeps of a set: no text of any case, so that an erasure need not touch the trail.

    `changed` are the ids that an entry is about.
    """

    version: int
    cases: int
    digest: str
    changed: tuple[str, ...] = ()
    is_golden: bool = False

    def to_audit(self) -> dict[str, Any]:
        """Return the state as JSON knows it."""
        golden = {"golden": True} if self.is_golden else {}
        return {
            "version": self.version, "cases": self.cases, "digest": self.digest, "changed": list(self.changed),
        } | golden  # fmt: skip

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "CaseSetState | None":
        """Return the state that `to_audit` wrote; None where there was no set."""
        if not told:
            return None
        changed = tuple(str(each) for each in told.get("changed") or ())
        return cls(
            int(told["version"]), int(told["cases"]), str(told["digest"]), changed, is_golden=bool(told.get("golden"))
        )


_MOST_TOLD = 200  # ids in an audit entry


def describe_state(found: CaseSet, changed: Sequence[str] = ()) -> CaseSetState | None:
    """Return what the audit trail keeps of a set; None for one that does not exist yet."""
    if not found.version:
        return None
    digest = dataset_digest(found.plain)
    return CaseSetState(found.version, len(found.cases), digest, tuple(changed[:_MOST_TOLD]), is_golden=found.is_golden)


def check_set_name(name: str) -> str:
    """Return the name of a set. Raises InvalidInput unless it can be a file's name."""
    if not _SET_NAME.fullmatch(name):
        raise InvalidInput(
            "case set", f"must be 1 to 100 letters, digits, '.', '_' and '-', and begin with one, not {name[:80]!r}"
        )
    return name


def check_case(case: Case) -> None:
    """Raise InvalidInput for a case that no file could hold, as `core.tracking.cases.parse_cases` does."""
    if not 0 < len(case.id.strip()) <= _LONGEST_ID or not case.id.isprintable() or case.id != case.id.strip():
        raise InvalidInput("id", f"must be 1 to {_LONGEST_ID} printable characters, not {case.id[:80]!r}")
    for name in ("question", "reference_answer"):
        value = getattr(case, name)
        if not value.strip() or len(value) > LONGEST_TEXT or "\x00" in value:
            raise InvalidInput(
                f"case {case.id}, {name}", f"must be 1 to {LONGEST_TEXT:,} characters, without null characters"
            )
    check_letters((case.question, case.reference_answer, case.expected_documents), f"case {case.id}")
    if any(not document.strip() or "\x00" in document for document in case.expected_documents):
        raise InvalidInput(f"case {case.id}, expected_documents", "must be document names")
    if case.answerable and not case.expected_documents:
        raise InvalidInput(
            f"case {case.id}, expected_documents",
            "is empty, but the case is answerable; name a document, or say that it is not answerable",
        )


def check_tags(tags: Collection[str]) -> None:
    """Raise InvalidInput for tags that are too many, too long, or hold a comma."""
    wrong = [tag for tag in tags if not 0 < len(tag) <= LONGEST_TAG or not tag.isprintable() or "," in tag]
    if wrong or len(tags) > MOST_TAGS:
        problem = f"must be at most {MOST_TAGS}, of 1 to {LONGEST_TAG} printable characters without a comma"
        raise InvalidInput("tags", problem)


def render_cases(cases: Iterable[Case]) -> str:
    """Return cases as the file that `parse_cases` reads: a line each, fields and cases in a fixed order.

    The same cases always give the same bytes.
    """
    return "".join(f"{json.dumps(asdict(case), ensure_ascii=False)}\n" for case in cases)


def compare_cases(stored: Sequence[Case], filed: Sequence[Case]) -> tuple[str, ...]:
    """Return a line for each case in which a file differs from the store; empty if both hold the same in one order."""
    ours, theirs = ({case.id: case for case in cases} for cases in (stored, filed))
    lines = [f"{name}: only in the store" for name in ours if name not in theirs]
    lines += [f"{name}: only in the file" for name in theirs if name not in ours]
    lines += [f"{name}: {_say_difference(case, theirs[name])}" for name, case in ours.items() if name in theirs]
    lines = [line for line in lines if not line.endswith(": ")]
    if not lines and list(ours) != list(theirs):
        lines.append("the order of the cases differs")
    return tuple(lines)


def make_ids(taken: Iterable[str], count: int) -> tuple[str, ...]:
    """Return the next ids of new cases, after the highest of those ever used.

    >>> make_ids(["c01", "c20", "mine"], 2), make_ids([], 1)
    (('c21', 'c22'), ('c01',))
    """
    highest = max((int(found[1]) for each in taken if (found := _NUMBERED.fullmatch(each))), default=0)
    return tuple(f"c{number:02}" for number in range(highest + 1, highest + 1 + count))


def split_list(text: str) -> tuple[str, ...]:
    """Return the parts of a text with commas, each once.

    >>> split_list("mbuf.md, ethdev.md,")
    ('mbuf.md', 'ethdev.md')
    """
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def write_body(stored: StoredCase) -> dict[str, Any]:
    """Return a case as the history keeps it; `read_body` reads it."""
    return {
        "case": asdict(stored.case), "position": stored.position, "source": asdict(stored.source),
        "tags": list(stored.tags), "reviewer": stored.reviewer,
    }  # fmt: skip


def read_body(body: Mapping[str, Any], *, version: int) -> StoredCase:
    """Return the case that `write_body` wrote, in the given version."""
    case = {**body["case"], "expected_documents": tuple(body["case"]["expected_documents"])}
    return StoredCase(
        Case(**case), body["position"], version, CaseSource(**body["source"]), tuple(body["tags"]), body["reviewer"]
    )


def is_same(one: StoredCase, other: StoredCase) -> bool:
    """Whether two states of a case hold the same, whatever their versions."""
    return replace(one, version=0) == replace(other, version=0)


def _say_difference(ours: Case, theirs: Case) -> str:
    names = [name for name in asdict(ours) if getattr(ours, name) != getattr(theirs, name)]
    return f"differs in {', '.join(names)}" if names else ""
