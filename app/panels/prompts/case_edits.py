"""What was edited in the table of cases, as cases: rows out, edits back in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from app.navigation import path_of
from core.cases.cases import StoredCase, split_list
from core.errors import InvalidInput

QUESTION, DOCUMENTS, REFERENCE = "question", "expected documents", "reference answer"
ANSWERABLE, TAGS, REVIEWED = "answerable", "tags", "reviewed"
EDITED = (QUESTION, ANSWERABLE, DOCUMENTS, REFERENCE, TAGS, REVIEWED)


@dataclass(frozen=True, slots=True)
class CaseEdits:
    """The cases that were changed in the table, and the ids of those that were removed."""

    changed: tuple[StoredCase, ...]
    removed: tuple[str, ...]


def as_row(each: StoredCase) -> dict[str, Any]:
    """Return a case as a row of the table."""
    return {
        "id": each.id,
        QUESTION: each.case.question,
        ANSWERABLE: each.case.answerable,
        DOCUMENTS: ", ".join(each.case.expected_documents),
        REFERENCE: each.case.reference_answer,
        TAGS: ", ".join(each.tags),
        REVIEWED: bool(each.reviewer),
        "reviewer": each.reviewer,
        "corpus": each.source.corpus_version,
        "version": each.version,
        "source": _link(each),
    }


def read_edits(shown: Sequence[StoredCase], state: Mapping[str, Any]) -> CaseEdits:
    """Return what the table's state says was edited, by the rows that were shown. Raises InvalidInput."""
    gone = {int(place) for place in state.get("deleted_rows", ())}
    changed = [
        _change(shown[int(place)], cells)
        for place, cells in state.get("edited_rows", {}).items()
        if int(place) not in gone and int(place) < len(shown)
    ]
    return CaseEdits(tuple(changed), tuple(shown[place].id for place in sorted(gone) if place < len(shown)))


def _change(each: StoredCase, cells: Mapping[str, Any]) -> StoredCase:
    case = each.case
    if not cells.get(REVIEWED, True):
        raise InvalidInput(f"case {each.id}, {REVIEWED}", "cannot be taken back; restore the former version instead")
    return replace(
        each,
        case=replace(
            case,
            question=_text(cells, QUESTION, case.question),
            answerable=bool(cells.get(ANSWERABLE, case.answerable)),
            expected_documents=_list(cells, DOCUMENTS, case.expected_documents),
            reference_answer=_text(cells, REFERENCE, case.reference_answer),
        ),
        tags=_list(cells, TAGS, each.tags),
        reviewer="reviewed now" if cells.get(REVIEWED) else each.reviewer,  # the store puts the actor's name here
    )


def _text(cells: Mapping[str, Any], name: str, former: str) -> str:
    return str(cells[name] or "").strip() if name in cells else former


def _list(cells: Mapping[str, Any], name: str, former: tuple[str, ...]) -> tuple[str, ...]:
    return split_list(str(cells[name] or "")) if name in cells else former


def _link(each: StoredCase) -> str | None:
    source = each.source
    if not source.retrieval_id:
        return None
    named = {"question": source.retrieval_id, "environment": source.environment, "service": source.service}
    return f"/{path_of('questions')}?{urlencode(named)}"
